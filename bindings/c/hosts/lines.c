/*
 * A SQLite extension: WebSocket lines as functions of SQL.
 *
 *   ws_open(url)              opens a line in the background, and returns its number
 *   ws_send(line, text|blob)  sends a message; returns 1, or 0 if it was refused
 *   ws_receive(line, ms)      returns the next message, or NULL if none has come in that time, or the line is being closed
 *   ws_close(line)            closes the line; returns how many messages were never written
 *
 * The lines of a database connection that are still open are ended when it is closed.
 */
#include <stdlib.h>

#include <sqlite3ext.h>
#include <tautline.h>
SQLITE_EXTENSION_INIT1

enum { MOST = 16, END_MS = 500 };

/* The lines of a database connection, which SQLite uses on one thread at a time. */
struct lines {
    tautline_client lines[MOST];
    int functions;
};

/* The result is the last error of this thread. */
static void fail(sqlite3_context *context) {
    char text[1024];
    tautline_last_error(text, sizeof text);
    sqlite3_result_error(context, text, -1);
}

static tautline_client line_of(sqlite3_value *number) {
    tautline_client line;
    line.id = (uint64_t)sqlite3_value_int64(number);
    return line;
}

static void open_line(sqlite3_context *context, int count, sqlite3_value **values) {
    struct lines *lines = sqlite3_user_data(context);
    const char *url = (const char *)sqlite3_value_text(values[0]);
    tautline_options *options = NULL;
    int at = 0, code;
    (void)count;
    while (at < MOST && lines->lines[at].id != 0) at++;
    if (at == MOST) {
        sqlite3_result_error(context, "too many lines: close one", -1);
        return;
    }
    code = tautline_options_new(url != NULL ? url : "", &options);
    if (code == TAUTLINE_OK) code = tautline_open(options, &lines->lines[at]);
    tautline_options_free(options);
    if (code == TAUTLINE_OK)
        sqlite3_result_int64(context, (sqlite3_int64)lines->lines[at].id);
    else
        fail(context);
}

static void send_message(sqlite3_context *context, int count, sqlite3_value **values) {
    tautline_client line = line_of(values[0]);
    size_t length;
    int code;
    (void)count;
    if (sqlite3_value_type(values[1]) == SQLITE_BLOB) {
        const unsigned char *blob = sqlite3_value_blob(values[1]);
        length = (size_t)sqlite3_value_bytes(values[1]);
        code = tautline_send_binary(line, blob, length);
    } else {
        const char *text = (const char *)sqlite3_value_text(values[1]);
        length = (size_t)sqlite3_value_bytes(values[1]);
        code = tautline_send_text(line, text, length);
    }
    if (code == TAUTLINE_OK || code == TAUTLINE_E_FULL)
        sqlite3_result_int(context, code == TAUTLINE_OK);
    else
        fail(context);
}

static void receive(sqlite3_context *context, int count, sqlite3_value **values) {
    tautline_client line = line_of(values[0]);
    sqlite3_int64 patience = sqlite3_value_int64(values[1]);
    tautline_event event = {.size = sizeof event};
    unsigned char *buffer = NULL;
    size_t capacity = 0;
    int code;
    (void)count;
    for (;;) {
        code = tautline_next_event(line, &event, buffer, capacity);
        if (code == TAUTLINE_E_BUFFER) {
            sqlite3_free(buffer);
            buffer = sqlite3_malloc64(event.length);
            capacity = buffer != NULL ? event.length : 0;
            if (buffer == NULL) {
                sqlite3_result_error_nomem(context);
                return;
            }
        } else if (code == TAUTLINE_E_EMPTY) {
            /* Each event has the whole time anew: losses and states are few. */
            code = tautline_wait_event(line, patience > 0 ? (uint32_t)patience : 0);
            if (code != TAUTLINE_OK) break;
        } else if (code != TAUTLINE_OK || event.kind == TAUTLINE_EVENT_MESSAGE) {
            break;
        }
    }
    if (code == TAUTLINE_E_TIMEOUT || code == TAUTLINE_E_WOKEN)
        sqlite3_result_null(context);
    else if (code != TAUTLINE_OK)
        fail(context);
    else if (event.message_kind == TAUTLINE_TEXT)
        sqlite3_result_text64(context, buffer != NULL ? (char *)buffer : "", event.length, SQLITE_TRANSIENT, SQLITE_UTF8);
    else
        sqlite3_result_blob64(context, buffer != NULL ? (void *)buffer : "", event.length, SQLITE_TRANSIENT);
    sqlite3_free(buffer);
}

static void close_line(sqlite3_context *context, int count, sqlite3_value **values) {
    struct lines *lines = sqlite3_user_data(context);
    tautline_client line = line_of(values[0]);
    tautline_undelivered left = {.size = sizeof left};
    int at;
    (void)count;
    if (tautline_shutdown(line, TAUTLINE_CLOSE, END_MS, &left) != TAUTLINE_OK) {
        fail(context);
        return;
    }
    for (at = 0; at < MOST; at++)
        if (lines->lines[at].id == line.id) lines->lines[at].id = 0;
    sqlite3_result_int64(context, (sqlite3_int64)left.never_written);
}

/* SQLite drops a function: with the last one, the database connection is being closed, and the extension may be unloaded. */
static void drop(void *data) {
    struct lines *lines = data;
    int at;
    if (--lines->functions > 0) return;
    for (at = 0; at < MOST; at++)
        if (lines->lines[at].id != 0) tautline_shutdown(lines->lines[at], TAUTLINE_CLOSE, END_MS, NULL);
    free(lines);
}

int sqlite3_lines_init(sqlite3 *database, char **error, const sqlite3_api_routines *api) {
    struct lines *lines = calloc(1, sizeof *lines);
    int code = lines != NULL ? SQLITE_OK : SQLITE_NOMEM;
    (void)error;
    SQLITE_EXTENSION_INIT2(api);
    if (lines == NULL) return code;
    /* Held by each function, and by this one until all are there: one that can't be made is dropped at once. */
    lines->functions = 5;
    code = sqlite3_create_function_v2(database, "ws_open", 1, SQLITE_UTF8, lines, open_line, NULL, NULL, drop);
    if (code == SQLITE_OK)
        code = sqlite3_create_function_v2(database, "ws_send", 2, SQLITE_UTF8, lines, send_message, NULL, NULL, drop);
    else
        lines->functions--;
    if (code == SQLITE_OK)
        code = sqlite3_create_function_v2(database, "ws_receive", 2, SQLITE_UTF8, lines, receive, NULL, NULL, drop);
    else
        lines->functions--;
    if (code == SQLITE_OK)
        code = sqlite3_create_function_v2(database, "ws_close", 1, SQLITE_UTF8, lines, close_line, NULL, NULL, drop);
    else
        lines->functions--;
    drop(lines);
    return code;
}
