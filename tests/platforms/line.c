/*
 * Sends a line of text to a WebSocket server and prints what comes back, on a system without descriptors: line.exe URL TEXT
 *
 * It is bindings/c/examples/line.c with tautline_wait_event for poll().
 */
#include <stdio.h>
#include <string.h>

#include <tautline.h>

/* Ends the program with the last error of this thread. */
static int give_up(const char *what, int code)
{
    char detail[1024];

    tautline_last_error(detail, sizeof detail);
    fprintf(stderr, "%s: %s: %s\n", what, tautline_error_text(code), detail);
    return 1;
}

/* Prints events until the first message. Returns a code. */
static int listen_to(tautline_client client)
{
    char payload[256];
    tautline_event event = {0};
    int code;

    event.size = sizeof event;
    for (;;) {
        code = tautline_next_event(client, &event, (unsigned char *)payload, sizeof payload);
        if (code == TAUTLINE_E_EMPTY) code = tautline_wait_event(client, 20000);
        else if (code == TAUTLINE_OK && event.kind == TAUTLINE_EVENT_READY) printf("ready\n");
        else if (code == TAUTLINE_OK && event.kind == TAUTLINE_EVENT_MESSAGE) {
            printf("received: %.*s\n", (int)event.length, payload);
            return code;
        }
        if (code != TAUTLINE_OK) return code;
    }
}

int main(int argc, char **argv)
{
    tautline_options *options = NULL;
    tautline_client client = {0};
    tautline_undelivered left = {0};
    int code;

    left.size = sizeof left;
    if (argc != 3) {
        fprintf(stderr, "usage: line URL TEXT\n");
        return 2;
    }
    code = tautline_options_new(argv[1], &options);
    if (code == TAUTLINE_OK) code = tautline_open(options, &client);
    tautline_options_free(options);
    if (code != TAUTLINE_OK) return give_up("open", code);
    if (tautline_event_fd(client) != TAUTLINE_E_UNSUPPORTED) {
        fprintf(stderr, "there is a descriptor\n");
        return 1;
    }
    code = tautline_send_text(client, argv[2], strlen(argv[2]));
    if (code == TAUTLINE_OK) code = tautline_wait_ready(client, 5000);
    if (code == TAUTLINE_OK) code = listen_to(client);
    if (code != TAUTLINE_OK) give_up("line", code);
    if (tautline_shutdown(client, TAUTLINE_CLOSE, 5000, &left) != TAUTLINE_OK) return give_up("shutdown", code);
    printf("gone; %lu never written\n", (unsigned long)left.never_written);
    return code == TAUTLINE_OK ? 0 : 1;
}
