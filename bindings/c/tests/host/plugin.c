/* A plugin as a host loads it. It can be unloaded, other than the library that it is linked to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tautline.h>

static tautline_client line;

/* What the constructor got from its waits. */
int plugin_waited = 1;

int plugin_begin(const char *url) {
    tautline_options *options = NULL;
    int code = tautline_options_new(url, &options);
    if (code == TAUTLINE_OK) code = tautline_options_insecure(options, 1);
    if (code == TAUTLINE_OK) code = tautline_options_close_timeout(options, 100);
    if (code == TAUTLINE_OK) code = tautline_options_outbox(options, 16, 1 << 20);
    if (code == TAUTLINE_OK) code = tautline_open(options, &line);
    tautline_options_free(options);
    return code;
}

int plugin_wait(unsigned timeout_ms) { return tautline_wait_ready(line, timeout_ms); }

int plugin_state(void) { return tautline_state(line); }

/* Sends a message and waits for its echo. */
int plugin_talk(unsigned timeout_ms) {
    char buffer[256];
    tautline_event event = {.size = sizeof event};
    int code = tautline_send_text(line, "hello", 5);
    while (code == TAUTLINE_OK) {
        code = tautline_next_event(line, &event, (unsigned char *)buffer, sizeof buffer);
        if (code == TAUTLINE_OK && event.kind == TAUTLINE_EVENT_MESSAGE)
            return event.length == 5 && memcmp(buffer, "hello", 5) == 0 ? TAUTLINE_OK : TAUTLINE_E_ARGUMENT;
        if (code == TAUTLINE_E_EMPTY) code = tautline_wait_event(line, timeout_ms);
    }
    return code;
}

/* Sends until its server has taken nothing for a while. */
int plugin_fill(unsigned timeout_ms) {
    static const unsigned char block[64 << 10];
    int code = tautline_wait_ready(line, timeout_ms);
    while (code == TAUTLINE_OK) code = tautline_send_timeout(line, TAUTLINE_BINARY, block, sizeof block, 20);
    return code == TAUTLINE_E_TIMEOUT ? TAUTLINE_OK : code;
}

int plugin_end(int how, unsigned deadline_ms) {
    tautline_undelivered left = {.size = sizeof left};
    return tautline_shutdown(line, how, deadline_ms, &left);
}

/* Why the last call failed. */
const char *plugin_why(void) {
    static char text[1024];
    tautline_last_error(text, sizeof text);
    return text;
}

static void end_with(const char *when) {
    int code = plugin_end(TAUTLINE_CLOSE, 500);
    printf("%s: %s\n", when, code == TAUTLINE_OK ? "gone" : plugin_why());
    fflush(stdout);
}

/* A plugin that does at load time what it had better do later. */
__attribute__((constructor)) static void load(void) {
    const char *url = getenv("PLUGIN_OPENS_AT_LOAD");
    if (url == NULL) return;
    plugin_waited = plugin_begin(url);
    if (plugin_waited == TAUTLINE_OK) plugin_waited = plugin_wait(300);
    if (getenv("PLUGIN_ENDS_AT_LOAD") != NULL) end_with("load");
}

__attribute__((destructor)) static void unload(void) {
    if (getenv("PLUGIN_ENDS_AT_UNLOAD") != NULL) end_with("unload");
}
