/*
 * Sends a line of text to a WebSocket server, and prints what comes back: line URL [TEXT]
 *
 * It waits for the line's descriptor by poll(), as the loop of a host does.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tautline.h>

/* Ends the program with the last error of this thread. */
static int give_up(const char *what, int code) {
    char detail[1024];
    tautline_last_error(detail, sizeof detail);
    fprintf(stderr, "%s: %s: %s\n", what, tautline_error_text(code), detail);
    return EXIT_FAILURE;
}

/* Makes room for a payload of this length. */
static void *grown(void *buffer, size_t *capacity, size_t length) {
    void *larger = realloc(buffer, length);
    if (larger == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    *capacity = length;
    return larger;
}

/* Prints events until the first message. Returns a code. */
static int listen_to(tautline_client client) {
    unsigned char *buffer = NULL;
    size_t capacity = 0;
    tautline_event event = {.size = sizeof event};
    struct pollfd wait = {.fd = tautline_event_fd(client), .events = POLLIN};
    int code = wait.fd < 0 ? wait.fd : TAUTLINE_OK, done = 0;

    while (!done && code == TAUTLINE_OK) {
        /* A host waits for its other descriptors here, too. */
        if (poll(&wait, 1, 5000) == 0) {
            code = TAUTLINE_E_TIMEOUT;
            break;
        }
        while (!done && (code = tautline_next_event(client, &event, buffer, capacity)) != TAUTLINE_E_EMPTY) {
            if (code == TAUTLINE_E_BUFFER) {
                /* The event has stayed. */
                buffer = grown(buffer, &capacity, event.length);
                continue;
            }
            if (code != TAUTLINE_OK) break;
            switch (event.kind) {
                case TAUTLINE_EVENT_READY: printf("ready\n"); break;
                case TAUTLINE_EVENT_DISCONNECTED:
                    printf("lost: %.*s\n", (int)event.length, (char *)buffer);
                    break;
                case TAUTLINE_EVENT_MESSAGE:
                    printf("received: %.*s\n", (int)event.length, (char *)buffer);
                    done = 1;
                    break;
                default: break;
            }
        }
        if (code == TAUTLINE_E_EMPTY) code = TAUTLINE_OK;
    }
    free(buffer);
    return code;
}

int main(int argc, char **argv) {
    tautline_options *options = NULL;
    tautline_client client = {0};
    tautline_undelivered left = {.size = sizeof left};
    const char *text = argc > 2 ? argv[2] : "hello";
    int code, ended;

    if (argc < 2) {
        fprintf(stderr, "usage: line URL [TEXT]\n");
        return EXIT_FAILURE;
    }
    code = tautline_options_new(argv[1], &options);
    if (code == TAUTLINE_OK) code = tautline_options_connect_timeout(options, 3000);
    if (code == TAUTLINE_OK) code = tautline_open(options, &client);
    tautline_options_free(options);
    if (code != TAUTLINE_OK) return give_up("open", code);

    /* It is sent as soon as the line is ready. */
    code = tautline_send_text(client, text, strlen(text));
    if (code == TAUTLINE_OK) code = listen_to(client);
    if (code == TAUTLINE_E_TIMEOUT)
        fprintf(stderr, "nothing came\n");
    else if (code != TAUTLINE_OK)
        give_up("line", code);

    ended = tautline_shutdown(client, TAUTLINE_CLOSE, 2000, &left);
    if (ended != TAUTLINE_OK) return give_up("shutdown", ended);
    printf("gone; %llu never written\n", (unsigned long long)left.never_written);
    return code == TAUTLINE_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
