/* A process that forks while other threads of it are inside of calls: fork URL. The server ends a connection by which "cut" comes. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tautline.h>

#define LONG_MS 20000
#define FORKS 40

static tautline_options *options, *others;
static tautline_client line;
static atomic_int logged, done;

/* Ends this process, parent or child. */
static void check(int holds, const char *what, int number) {
    char why[1024];
    if (holds) return;
    tautline_last_error(why, sizeof why);
    fprintf(stderr, "FAILED in %d: %s: %d; the last error: %s\n", (int)getpid(), what, number, why);
    _exit(1);
}

static void is(int code, int expected, const char *what) { check(code == expected, what, code); }

/* Runs this in a child, which must do it within a time and without a crash. It ends without a shutdown of the parent's client. */
static void in_child(void (*run)(void)) {
    int status = -1;
    pid_t child = fork();
    check(child >= 0, "fork", child);
    if (child == 0) {
        alarm(20);
        run();
        _exit(0);
    }
    waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the status of a child", status);
}

/* It is slow, so that a fork finds threads inside of it. */
static void log_line(void *user, int level, const char *text, size_t length) {
    (void)user, (void)level, (void)text, (void)length;
    atomic_fetch_add(&logged, 1);
    usleep(100);
}

static tautline_client opened(void) {
    tautline_client client = {0};
    is(tautline_open(options, &client), TAUTLINE_OK, "open");
    return client;
}

static void sends(tautline_client client, const char *text) {
    is(tautline_send_timeout(client, TAUTLINE_TEXT, (const unsigned char *)text, strlen(text), LONG_MS), TAUTLINE_OK, text);
}

/* Takes events until one of this kind, and has its payload equal `text` if that is not null. */
static void takes(tautline_client client, int kind, const char *text) {
    unsigned char buffer[256];
    tautline_event event = {.size = sizeof event};
    do {
        int code = tautline_next_event(client, &event, buffer, sizeof buffer);
        event.kind = code == TAUTLINE_E_EMPTY ? -1 : event.kind;
        if (code == TAUTLINE_E_EMPTY) code = tautline_wait_event(client, LONG_MS);
        is(code, TAUTLINE_OK, "an event");
    } while (event.kind != kind);
    if (text != NULL) check(event.length == strlen(text) && memcmp(buffer, text, event.length) == 0, text, (int)event.length);
}

static void every_function_is_refused(void) {
    unsigned char buffer[256];
    char why[256];
    tautline_event event = {.size = sizeof event};
    tautline_counters counters = {.size = sizeof counters};
    tautline_undelivered left = {.size = sizeof left};
    is(tautline_wait_ready(line, LONG_MS), TAUTLINE_E_FORKED, "wait_ready");
    tautline_last_error(why, sizeof why);
    check(strstr(why, "forked this one") != NULL, why, 0);
    check(strstr(tautline_error_text(TAUTLINE_E_FORKED), "forked this one") != NULL, "error_text", 0);
    is(tautline_wait_event(line, LONG_MS), TAUTLINE_E_FORKED, "wait_event");
    is(tautline_wake(line), TAUTLINE_E_FORKED, "wake");
    is(tautline_send_text(line, "child", 5), TAUTLINE_E_FORKED, "send_text");
    is(tautline_send_binary(line, (const unsigned char *)"child", 5), TAUTLINE_E_FORKED, "send_binary");
    is(tautline_send_timeout(line, TAUTLINE_TEXT, (const unsigned char *)"child", 5, LONG_MS), TAUTLINE_E_FORKED, "send_timeout");
    is(tautline_next_event(line, &event, buffer, sizeof buffer), TAUTLINE_E_FORKED, "next_event");
    is(tautline_event_fd(line), TAUTLINE_E_FORKED, "event_fd");
    is(tautline_state(line), TAUTLINE_E_FORKED, "state");
    is(tautline_stats(line, &counters), TAUTLINE_E_FORKED, "stats");
    is(tautline_shutdown(line, TAUTLINE_CLOSE, LONG_MS, &left), TAUTLINE_E_FORKED, "shutdown");
    is(tautline_shutdown(line, TAUTLINE_TERMINATE, LONG_MS, NULL), TAUTLINE_E_FORKED, "shutdown again");
    check(left.never_written == 0 && counters.attempts == 0, "what was written", 0);
}

static void a_new_client_works(void) {
    tautline_client own;
    int before, busy;
    every_function_is_refused();
    /* Whichever call of the parent's threads was under way. */
    is(tautline_log_to(log_line, NULL, TAUTLINE_LOG_INFO), TAUTLINE_OK, "log_to");
    busy = tautline_options_connect_timeout(others, 3000);
    check(busy == TAUTLINE_OK || busy == TAUTLINE_E_BUSY, "options that a thread of the parent's changes", busy);
    before = atomic_load(&logged);
    own = opened();
    sends(own, "cut");
    takes(own, TAUTLINE_EVENT_DISCONNECTED, NULL);
    is(tautline_wait_ready(own, LONG_MS), TAUTLINE_OK, "the line is back");
    sends(own, "back");
    takes(own, TAUTLINE_EVENT_MESSAGE, "back");
    check(atomic_load(&logged) > before, "lines of the log", before);
    is(tautline_shutdown(own, TAUTLINE_CLOSE, 5000, NULL), TAUTLINE_OK, "shutdown");
    is(tautline_state(own), TAUTLINE_E_HANDLE, "a stale number");
    is(tautline_log_to(NULL, NULL, TAUTLINE_LOG_OFF), TAUTLINE_OK, "log_to, off");
    every_function_is_refused();
}

/* What the threads of the parent do meanwhile. */

static void *looks(void *unused) {
    while (!atomic_load(&done)) {
        uint64_t made_up;
        tautline_counters counters = {.size = sizeof counters};
        is(tautline_stats(line, &counters), TAUTLINE_OK, "stats");
        for (made_up = 1; made_up < 8; made_up++) tautline_state((tautline_client){made_up});
    }
    return unused;
}

static void *logs(void *unused) {
    while (!atomic_load(&done)) {
        tautline_log_to(log_line, NULL, TAUTLINE_LOG_TRACE);
        tautline_log_to(log_line, NULL, TAUTLINE_LOG_DEBUG);
    }
    return unused;
}

static void *changes_options(void *unused) {
    while (!atomic_load(&done)) is(tautline_options_connect_timeout(others, 3000), TAUTLINE_OK, "options");
    return unused;
}

static void *comes_and_goes(void *unused) {
    while (!atomic_load(&done)) is(tautline_shutdown(opened(), TAUTLINE_TERMINATE, LONG_MS, NULL), TAUTLINE_OK, "shutdown");
    return unused;
}

static int is_readable(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) == 1;
}

int main(int argc, char **argv) {
    void *(*meanwhile[])(void *) = {looks, logs, changes_options, comes_and_goes};
    pthread_t threads[4];
    tautline_counters counters = {.size = sizeof counters};
    int i, fd;

    if (argc < 2) return 2;
    is(tautline_options_new(argv[1], &options), TAUTLINE_OK, "options_new");
    is(tautline_options_new(argv[1], &others), TAUTLINE_OK, "options_new");
    is(tautline_options_close_timeout(options, 500), TAUTLINE_OK, "close_timeout");
    is(tautline_options_reconnect(options, 10, 100, TAUTLINE_UNLIMITED), TAUTLINE_OK, "reconnect");
    line = opened();
    sends(line, "before");
    takes(line, TAUTLINE_EVENT_MESSAGE, "before");
    sends(line, "waits");
    fd = tautline_event_fd(line);
    is(tautline_wait_event(line, LONG_MS), TAUTLINE_OK, "wait_event");
    while (!is_readable(fd)) usleep(1000);
    in_child(every_function_is_refused);
    check(is_readable(fd), "the descriptor of the parent is as it was", fd);
    takes(line, TAUTLINE_EVENT_MESSAGE, "waits");

    for (i = 0; i < 4; i++) check(pthread_create(&threads[i], NULL, meanwhile[i], NULL) == 0, "a thread", i);
    for (i = 0; i < FORKS; i++) in_child(a_new_client_works);
    atomic_store(&done, 1);
    for (i = 0; i < 4; i++) pthread_join(threads[i], NULL);

    /* The parent's client goes on, and nothing came of what the children sent. */
    sends(line, "after");
    takes(line, TAUTLINE_EVENT_MESSAGE, "after");
    is(tautline_stats(line, &counters), TAUTLINE_OK, "stats");
    check(counters.disconnects == 0 && counters.messages_accepted == 3, "counters", (int)counters.messages_accepted);
    is(tautline_shutdown(line, TAUTLINE_CLOSE, LONG_MS, NULL), TAUTLINE_OK, "shutdown");
    tautline_options_free(options);
    tautline_options_free(others);
    printf("%d children\n", FORKS);
    return 0;
}
