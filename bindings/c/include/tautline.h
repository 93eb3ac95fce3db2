/*
 * tautline: a WebSocket client for plugins, and for programs that are not in Rust.
 *
 * Made by cbindgen from the comments of src/: see README.md. Change them there.
 *
 * Each function returns TAUTLINE_OK (0) or a code below 0, unless it says otherwise. tautline_error_text() says what a
 * code means, and tautline_last_error() what happened in detail. No call ends the process, and none lets anything be
 * thrown out of it. A text in the arguments is UTF-8, ends with a NUL unless its length is given, and is copied.
 * Pointers that must not be null are checked for that; everything else about them is the caller's promise.
 * A struct that begins with its size may have more fields in a later version: the library writes no more of it than that size.
 */

#ifndef TAUTLINE_H
#define TAUTLINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The call has done what it says.
 */
#define TAUTLINE_OK 0

/**
 * An argument is wrong: a null or misaligned pointer, or a value that means nothing.
 */
#define TAUTLINE_E_ARGUMENT -1

/**
 * The field `size` of a struct is smaller than the struct of any version. Set it to `sizeof` before the call.
 */
#define TAUTLINE_E_SIZE -2

/**
 * A text is not UTF-8.
 */
#define TAUTLINE_E_UTF8 -3

/**
 * There is no such client: it has been shut down, or there never was one.
 */
#define TAUTLINE_E_HANDLE -4

/**
 * The URL or an option can't be used. `tautline_last_error` says which, and what is allowed.
 */
#define TAUTLINE_E_CONFIG -5

/**
 * The outbox is full. The message was not accepted.
 */
#define TAUTLINE_E_FULL -6

/**
 * The line is not ready, and the options say that messages are refused then. The message was not accepted.
 */
#define TAUTLINE_E_NOT_READY -7

/**
 * The client is closed, or is closing. Of events: all have been taken. `tautline_last_error` says why it is closed.
 */
#define TAUTLINE_E_CLOSED -8

/**
 * The message is larger than `TAUTLINE_MOST_BYTES`. It was not accepted.
 */
#define TAUTLINE_E_TOO_LARGE -9

/**
 * The time is over.
 */
#define TAUTLINE_E_TIMEOUT -10

/**
 * `tautline_wake` or `tautline_shutdown` has ended the wait.
 */
#define TAUTLINE_E_WOKEN -11

/**
 * The buffer is too small. The event stays; its field `length` says how much room it needs.
 */
#define TAUTLINE_E_BUFFER -12

/**
 * There is no event now.
 */
#define TAUTLINE_E_EMPTY -13

/**
 * Another thread is in the same call, or in a call that has to end first. Nothing was done.
 */
#define TAUTLINE_E_BUSY -14

/**
 * The call would wait, and was made in a callback on the thread of a client, which may not wait.
 */
#define TAUTLINE_E_DEADLOCK -15

/**
 * The operating system refused a thread, a descriptor or something else.
 */
#define TAUTLINE_E_SYSTEM -16

/**
 * There are `TAUTLINE_MOST_CLIENTS` clients already.
 */
#define TAUTLINE_E_CLIENTS -17

/**
 * Some threads of the client have not ended: `tautline_last_error` names them. Call `tautline_shutdown` again.
 */
#define TAUTLINE_E_STILL_RUNNING -18

/**
 * A defect of the library, which has panicked. `tautline_last_error` says where. Other clients go on.
 */
#define TAUTLINE_E_PANIC -19

/**
 * This system has nothing of the kind.
 */
#define TAUTLINE_E_UNSUPPORTED -20

/**
 * The client belongs to the process that forked this one, and its threads are there. Each function on a client may return this.
 * Nothing was done; the parent's client goes on. Open a new client in this process.
 */
#define TAUTLINE_E_FORKED -21

/**
 * Writes what was accepted, and closes the line with close code 1000.
 */
#define TAUTLINE_CLOSE 0

/**
 * Ends the line at once.
 */
#define TAUTLINE_TERMINATE 1

/**
 * An event that this version of the interface has no number for.
 */
#define TAUTLINE_EVENT_OTHER 0

/**
 * The line changed its `state`.
 */
#define TAUTLINE_EVENT_STATE 1

/**
 * The line is ready. The payload is the subprotocol that the server chose, if any; `count` is the number of attempts.
 */
#define TAUTLINE_EVENT_READY 2

/**
 * A message arrived, of this `message_kind`. The payload is its own.
 */
#define TAUTLINE_EVENT_MESSAGE 3

/**
 * An attempt failed, or an open connection was lost. The payload is the reason, as text; `count` is how many messages were
 * written and may have been lost; `retry_in_ms` is the delay until the next attempt.
 */
#define TAUTLINE_EVENT_DISCONNECTED 4

/**
 * Messages were given up before they were sent: `count` of them.
 */
#define TAUTLINE_EVENT_EXPIRED 5

/**
 * `count` events were dropped, because too many were unread. No message is ever among them. `state` is the one after them.
 */
#define TAUTLINE_EVENT_MISSED 6

/**
 * The client is closed. The payload is the reason, as text. This is the last event.
 */
#define TAUTLINE_EVENT_CLOSED 7

/**
 * A message of UTF-8 text.
 */
#define TAUTLINE_TEXT 1

/**
 * A message of bytes.
 */
#define TAUTLINE_BINARY 2

/**
 * Nothing is logged.
 */
#define TAUTLINE_LOG_OFF 0

/**
 * What ends a client by a defect.
 */
#define TAUTLINE_LOG_ERROR 1

/**
 * Each loss and each failed attempt, with its reason, and what looks wrong in the options.
 */
#define TAUTLINE_LOG_WARN 2

/**
 * Each state of a line.
 */
#define TAUTLINE_LOG_INFO 3

/**
 * Details.
 */
#define TAUTLINE_LOG_DEBUG 4

/**
 * More details.
 */
#define TAUTLINE_LOG_TRACE 5

/**
 * No limit, for the number of attempts of `tautline_options_reconnect`.
 */
#define TAUTLINE_UNLIMITED UINT32_MAX

/**
 * The largest message that can be sent, in bytes.
 */
#define TAUTLINE_MOST_BYTES 67108864

/**
 * No connection. Another attempt follows.
 */
#define TAUTLINE_STATE_DISCONNECTED 1

/**
 * An attempt is under way.
 */
#define TAUTLINE_STATE_CONNECTING 2

/**
 * The WebSocket is open. Without a login, the line is ready.
 */
#define TAUTLINE_STATE_CONNECTED 3

/**
 * The WebSocket is open and the login is accepted: the line is ready.
 */
#define TAUTLINE_STATE_AUTHENTICATED 4

/**
 * The close handshake is under way.
 */
#define TAUTLINE_STATE_CLOSING 5

/**
 * Final: the client was shut down, or gave up.
 */
#define TAUTLINE_STATE_CLOSED 6

/**
 * How many clients there can be at a time.
 */
#define TAUTLINE_MOST_CLIENTS 1024

/**
 * The options of a client. Make them with `tautline_options_new`, open any number of clients with them, and free them with
 * `tautline_options_free`. Each function that changes them copies what it is given, allocates, never blocks, and may be called on any
 * thread. It returns `TAUTLINE_OK`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_UTF8`, or `TAUTLINE_E_BUSY` if another thread is in a call with
 * these options. Whether a value can be used is checked by `tautline_open`.
 *
 * A child made by fork can use the options of its parent. If a thread of the parent's was in a call with them at that moment, they
 * stay `TAUTLINE_E_BUSY` there: make new ones.
 */
typedef struct tautline_options tautline_options;

/**
 * A client. Copy it freely: it is a number. One that was shut down is never another one's, unless 2^30 others stood in its
 * place since. `{0}` is no client.
 *
 * A child made by fork has none of the threads that serve it. There, each function on a client of the parent's returns
 * `TAUTLINE_E_FORKED` at once and does nothing, `tautline_shutdown` too. Open a new one there; options can be used on.
 */
typedef struct tautline_client {
  /**
   * The number.
   */
  uint64_t id;
} tautline_client;

/**
 * How much could not be delivered when a client was shut down. Set `size` before the call.
 */
typedef struct tautline_undelivered {
  /**
   * The size of this struct, in bytes: `sizeof(tautline_undelivered)`.
   */
  size_t size;
  /**
   * Messages that were accepted and never written to a connection.
   */
  uint64_t never_written;
  /**
   * Messages that were written to the last connection and not confirmed.
   */
  uint64_t maybe_delivered;
} tautline_undelivered;

/**
 * Something that happened on the line. Set `size` before the call. A field that the kind of event does not have is 0.
 */
typedef struct tautline_event {
  /**
   * The size of this struct, in bytes: `sizeof(tautline_event)`.
   */
  size_t size;
  /**
   * What happened: one of `TAUTLINE_EVENT_…`. Skip those that you don't know: a later version may have more.
   */
  int32_t kind;
  /**
   * `TAUTLINE_TEXT` or `TAUTLINE_BINARY`.
   */
  int32_t message_kind;
  /**
   * One of `TAUTLINE_STATE_…`.
   */
  int32_t state;
  /**
   * The close code of the server, if that has ended the line: 1005 if it gave none. Of `DISCONNECTED` and `CLOSED`.
   */
  uint16_t close_code;
  /**
   * The HTTP status by which the server refused the upgrade, such as 401. Of `DISCONNECTED` and `CLOSED`.
   */
  uint16_t http_status;
  /**
   * How many: see the kinds.
   */
  uint64_t count;
  /**
   * The delay until the next attempt, in milliseconds; -1 if there will be none.
   */
  int64_t retry_in_ms;
  /**
   * The length of the payload, in bytes. No NUL follows it.
   */
  size_t length;
} tautline_event;

/**
 * Gets a line of the log: the `user` that was given with it, the level, and the text of `length` bytes with a NUL behind it, which is
 * gone when the call returns. It is called on whichever thread has something to say, on several at once, and on those of a client:
 * there a call that would block fails. It must not wait for a lock that the caller of `tautline_shutdown` holds, and nothing
 * may be thrown out of it.
 */
typedef void (*tautline_log_fn)(void *user, int32_t level, const char *text, size_t length);

/**
 * Is called on a thread of a client, with the `user` that was given with it and the thread's name, which ends with a NUL and is
 * gone when the call returns. A call that would block fails there. Nothing may be thrown out of it.
 */
typedef void (*tautline_thread_fn)(void *user, const char *name);

/**
 * What a client has done since it was opened. Set `size` before the call.
 */
typedef struct tautline_counters {
  /**
   * The size of this struct, in bytes: `sizeof(tautline_counters)`.
   */
  size_t size;
  /**
   * Attempts to connect, including failed ones.
   */
  uint64_t attempts;
  /**
   * How often the line became ready.
   */
  uint64_t connects;
  /**
   * How often an open line was lost or closed.
   */
  uint64_t disconnects;
  /**
   * Messages that were accepted.
   */
  uint64_t messages_accepted;
  /**
   * Messages that were handed to the operating system.
   */
  uint64_t messages_written;
  /**
   * Messages in the outbox.
   */
  uint64_t messages_queued;
  /**
   * The bytes of their payloads.
   */
  uint64_t bytes_queued;
  /**
   * Messages that were received.
   */
  uint64_t messages_received;
  /**
   * Bytes handed to the operating system, including TLS and framing.
   */
  uint64_t bytes_written;
  /**
   * Bytes read, including TLS and framing.
   */
  uint64_t bytes_read;
  /**
   * The latest measured round trip of a heartbeat, in microseconds; 0 until one was answered.
   */
  uint64_t round_trip_us;
} tautline_counters;

/**
 * Opens a client with these options, and writes its number to `client`. It connects in the background, and retries for as long
 * as it takes, or as the options say. Messages can be sent at once: they wait in the outbox. The options can be used again, and
 * changed; that does not change this client.
 *
 * Threads: any. Does not wait for the network. With `wss://` it reads the certificates of the options. Allocates, and starts a
 * thread, and one more with the first client. In a constructor of a library the threads begin when it has been loaded.
 *
 * Errors: `TAUTLINE_E_CONFIG`, `TAUTLINE_E_SYSTEM`, `TAUTLINE_E_CLIENTS`, `TAUTLINE_E_ARGUMENT`; `TAUTLINE_E_BUSY` if another thread is
 * changing the options. Nothing is left open then.
 */
int32_t tautline_open(const struct tautline_options *options,
                      struct tautline_client *client);

/**
 * Waits until the line is ready, for `timeout_ms` at most. With 0 it only looks.
 *
 * Threads: any but those of a client (`TAUTLINE_E_DEADLOCK`). Blocks until the line is ready, the client is closed, `timeout_ms`
 * is over, or another thread calls `tautline_wake` or `tautline_shutdown`. Don't call it in a constructor of a library: it takes
 * its whole time there, since no thread can begin before the library has been loaded.
 *
 * Errors: `TAUTLINE_E_TIMEOUT`, whose text says why the line is down; `TAUTLINE_E_CLOSED`, `TAUTLINE_E_WOKEN`,
 * `TAUTLINE_E_DEADLOCK`, `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_wait_ready(struct tautline_client client,
                            uint32_t timeout_ms);

/**
 * Ends the waits that other threads are in with this client: `tautline_wait_ready` and `tautline_wait_event` return
 * `TAUTLINE_E_WOKEN`. If nobody waits, the next wait ends at once. Several wake-ups that nobody waited for are one.
 *
 * Threads: any. Never waits for more than a waiting thread's look at the client.
 *
 * Errors: `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_wake(struct tautline_client client);

/**
 * Returns what a code means: a static text, never null, also for a number that is no code.
 *
 * Threads: any. Never blocks. Allocates nothing.
 */
const char *tautline_error_text(int32_t code);

/**
 * Returns the version of the library, such as `0.1.0`: a static text.
 *
 * Threads: any. Never blocks. Allocates nothing.
 */
const char *tautline_version(void);

/**
 * Copies what the last failed call of this thread has to say in detail: which option, which thread, what the server said. Up to
 * 1,023 bytes of it are kept. Returns its length, without the NUL. `capacity` is the room at `buffer`; what doesn't fit is cut
 * off, and a NUL ends the text if `capacity` is not 0. A null `buffer` is right with a `capacity` of 0.
 *
 * Calls that succeed leave the text as it is, and so do those that find nothing, which is no failure: `TAUTLINE_E_EMPTY`,
 * `TAUTLINE_E_WOKEN`, and `TAUTLINE_E_TIMEOUT` of `tautline_wait_event`. It never contains a secret that the client has sent.
 *
 * Threads: any; each has a text of its own. Never blocks. Allocates nothing.
 */
size_t tautline_last_error(char *buffer,
                           size_t capacity);

/**
 * Ends the client: `TAUTLINE_CLOSE` or `TAUTLINE_TERMINATE`. Returns `TAUTLINE_OK` when no thread of the client runs any more; its
 * number is stale from then on, and what was not taken of its events is dropped. If `undelivered` is not null, it then says how
 * much was not delivered.
 *
 * If some threads have not ended by the deadline, it returns `TAUTLINE_E_STILL_RUNNING`, and `tautline_last_error` names each with
 * the call that it is inside of, such as `tautline-dial: looking up gateway.example`. Such a thread calls nothing of the plugin's
 * any more. Call `tautline_shutdown` again, later or from another thread, until it returns `TAUTLINE_OK`. Until then the client
 * counts among the `TAUTLINE_MOST_CLIENTS`, unless all others are taken: then an open takes its place, once its threads have
 * ended, and its number is stale.
 *
 * The first `TAUTLINE_CLOSE` sets how long the close may take: `tautline_options_close_timeout`, or `deadline_ms` less 50 ms (less its
 * half, if that is shorter). With 0 it is the former, and the call returns at once; later ones wait for it. `TAUTLINE_TERMINATE`
 * cuts it short. What waits while the line is not ready is not written by any of them.
 *
 * Threads: any, also several at once: each hears `TAUTLINE_OK` when all is gone, or `TAUTLINE_E_HANDLE` if it comes later. On a thread
 * of a client it starts the end and returns `TAUTLINE_E_STILL_RUNNING` at once. Blocks for `deadline_ms` at most, whatever the host
 * does and whatever lock the caller holds, also in a constructor or destructor of a library. With 0 it starts the end, and looks.
 * Ends the waits of other threads with this client.
 *
 * Errors: `TAUTLINE_E_STILL_RUNNING`, `TAUTLINE_E_HANDLE`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`.
 */
int32_t tautline_shutdown(struct tautline_client client,
                          int32_t how,
                          uint32_t deadline_ms,
                          struct tautline_undelivered *undelivered);

/**
 * Takes the next event: writes it to `event`, and its payload to the `capacity` bytes at `buffer`. A null `buffer` is right with a
 * `capacity` of 0. If the payload doesn't fit, the event stays, `event` says what it is and how long the payload is, and the call
 * returns `TAUTLINE_E_BUFFER`: call again with more room.
 *
 * Call it until it returns `TAUTLINE_E_EMPTY`: only then does the descriptor of `tautline_event_fd` become unreadable.
 *
 * Threads: any; one at a time for each client (`TAUTLINE_E_BUSY`). Never blocks. Frees the memory of a payload of more than 80
 * bytes. The text of a `DISCONNECTED` or `CLOSED` event is put together, and allocates. Makes a system call if there is no event
 * and a descriptor that is readable.
 *
 * Errors: `TAUTLINE_E_EMPTY`, `TAUTLINE_E_BUFFER`, `TAUTLINE_E_CLOSED` after the last event, `TAUTLINE_E_BUSY`,
 * `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`, `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_next_event(struct tautline_client client,
                            struct tautline_event *event,
                            uint8_t *buffer,
                            size_t capacity);

/**
 * Waits until there is an event to take, for `timeout_ms` at most. With 0 it only looks.
 *
 * Threads: any but those of a client (`TAUTLINE_E_DEADLOCK`). Blocks until there is an event, `timeout_ms` is over, or another
 * thread calls `tautline_wake` or `tautline_shutdown`. While another thread is inside `tautline_next_event`, it returns
 * `TAUTLINE_OK`, because that thread may leave the event where it is.
 *
 * Errors: `TAUTLINE_E_TIMEOUT`, `TAUTLINE_E_WOKEN`, `TAUTLINE_E_CLOSED` after the last event, `TAUTLINE_E_DEADLOCK`,
 * `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_wait_event(struct tautline_client client,
                            uint32_t timeout_ms);

/**
 * Returns a descriptor that is readable while events wait, for `poll` and the like. It is always the same, and is not to be read
 * or closed: `tautline_next_event` makes it unreadable when there is no event. It can be readable without one, if an event was
 * taken before the client's thread made it so. It belongs to the client, so take it out of the loop before `tautline_shutdown`.
 *
 * Threads: any. Never blocks. The first call opens two descriptors; a client without such a call has none for this.
 *
 * Errors, which are below 0: `TAUTLINE_E_SYSTEM`, `TAUTLINE_E_HANDLE`; `TAUTLINE_E_UNSUPPORTED` on Windows.
 */
int32_t tautline_event_fd(struct tautline_client client);

/**
 * Has lines of the log up to this level (`TAUTLINE_LOG_…`) given to `callback`, instead of to the one before. A null `callback`, or
 * `TAUTLINE_LOG_OFF`, turns that off. Nothing is logged anywhere unless this is called.
 *
 * Turn it off before the code of `callback` or `user` goes. Nothing of it is called once this has returned `TAUTLINE_OK`.
 *
 * Threads: any. Never waits for a callback: `TAUTLINE_E_BUSY` says that a call of an earlier one has not returned. The new
 * setting holds then; call again to hear when that call is over. Some 60 bytes stay for each setting that is unlike all before.
 * In a child made by fork the setting of the parent holds.
 *
 * Errors: `TAUTLINE_E_BUSY`, `TAUTLINE_E_ARGUMENT`; `TAUTLINE_E_SYSTEM` if a Rust program that this is linked into has a logger.
 */
int32_t tautline_log_to(tautline_log_fn callback,
                        void *user,
                        int32_t level);

/**
 * Makes options for this URL (`ws://…` or `wss://…`) and writes a pointer to them to `options`.
 *
 * Threads: any. Never blocks. Allocates.
 *
 * Errors: `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_UTF8`.
 */
int32_t tautline_options_new(const char *url, struct tautline_options **options);

/**
 * Frees the options. Null is right, and does nothing. Clients that were opened with them go on.
 *
 * Threads: any; no other call may use these options, now or later.
 */
void tautline_options_free(struct tautline_options *options);

/**
 * Adds a header to the upgrade request.
 */
int32_t tautline_options_header(struct tautline_options *options, const char *name, const char *value);

/**
 * Offers a subprotocol, after those offered before.
 */
int32_t tautline_options_subprotocol(struct tautline_options *options, const char *name);

/**
 * Sets the time limit for one attempt to connect. Default 10,000 ms.
 */
int32_t tautline_options_connect_timeout(struct tautline_options *options, uint32_t timeout_ms);

/**
 * Sets the time limit for `TAUTLINE_CLOSE`: writing what was accepted, and the close handshake. Default 3,000 ms. The deadline of
 * `tautline_shutdown` holds in any case.
 */
int32_t tautline_options_close_timeout(struct tautline_options *options,
                                       uint32_t timeout_ms);

/**
 * Sets how often a ready line is asked for a sign of life, and how long the answer may take. An interval of 0 turns heartbeats off;
 * a dead server is then noticed only by what is sent to it. Default 30,000 and 10,000 ms.
 */
int32_t tautline_options_heartbeat(struct tautline_options *options,
                                   uint32_t interval_ms,
                                   uint32_t timeout_ms);

/**
 * Sets the delay before the first reconnect, the longest delay, and how many reconnects in a row may fail before the client is
 * closed: `TAUTLINE_UNLIMITED`, which is the default, or a number. With 0 the client is closed by the first failure. The delays are
 * 1,000 and 30,000 ms by default.
 *
 * Whatever is set here, a server that closes with code 1000 or 1008 ends the client. So does a refusal such as 401 or 404 before
 * the line was ever ready.
 */
int32_t tautline_options_reconnect(struct tautline_options *options,
                                   uint32_t initial_delay_ms,
                                   uint32_t max_delay_ms,
                                   uint32_t max_attempts);

/**
 * Offers compression (permessage-deflate), at this level: 1 to 9. With 0, which is the default, none is offered.
 */
int32_t tautline_options_compression(struct tautline_options *options,
                                     uint32_t level);

/**
 * Goes through this proxy, such as `http://proxy.example:3128` or `socks5://127.0.0.1:1080`. Default: straight to the server.
 */
int32_t tautline_options_proxy(struct tautline_options *options,
                               const char *url);

/**
 * Trusts the certificate authorities in the `length` bytes of PEM at `pem`, beside those of the system.
 */
int32_t tautline_options_ca_pem(struct tautline_options *options, const uint8_t *pem, size_t length);

/**
 * Accepts any certificate, if `insecure` is not 0: whoever is on the way to the server can then read and change everything. For
 * tests.
 */
int32_t tautline_options_insecure(struct tautline_options *options,
                                  int32_t insecure);

/**
 * Sets how many messages, and how many bytes of them, may be accepted and not yet written. Default 1,024 messages, 16 MiB.
 */
int32_t tautline_options_outbox(struct tautline_options *options,
                                size_t messages,
                                size_t bytes);

/**
 * Sets how many messages, and how many bytes of them, may be received and not yet taken. Above that the client stops reading.
 * Default 1,024 messages, 16 MiB.
 */
int32_t tautline_options_inbox(struct tautline_options *options,
                               size_t messages,
                               size_t bytes);

/**
 * Refuses messages while the line is not ready (`TAUTLINE_E_NOT_READY`), if `refuse` is not 0: for what means nothing later, such as
 * a level. Default: they wait in the outbox.
 */
int32_t tautline_options_refuse_while_down(struct tautline_options *options,
                                           int32_t refuse);

/**
 * Sets how long a message may wait before it is first written. A message that waits longer is never sent. With 0, which is the
 * default, there is no limit.
 */
int32_t tautline_options_max_age(struct tautline_options *options,
                                 uint32_t max_age_ms);

/**
 * Sends `login`, which is JSON, first on each connection, and has the line ready only when a message has come whose `field` is the
 * text `value`. If `field` is null, the line is ready when the login is sent. `TAUTLINE_E_ARGUMENT` if it is not JSON.
 */
int32_t tautline_options_login_json(struct tautline_options *options,
                                    const char *login,
                                    const char *field,
                                    const char *value);

/**
 * For threads that must never wait, such as the audio callback of a host: with a `capacity` above 0, `tautline_send_text`,
 * `tautline_send_binary` and `tautline_next_event` wait for no other thread, wherever that was stopped, and allocate nothing for a
 * message of up to 80 bytes. There is room for `capacity` messages in each direction, at most 65,536; it takes some 300 bytes each,
 * and takes the place of the numbers of messages of `tautline_options_outbox` and `tautline_options_inbox`. Messages then come before
 * other events that happened earlier, but for the last one. With 0, which is the default, calls are faster where nobody is stopped.
 */
int32_t tautline_options_realtime(struct tautline_options *options,
                                  size_t capacity);

/**
 * Names the client's threads: with `meter` they are `meter-io` and `meter-dial`, in a debugger and in a profiler. One to ten
 * printable ASCII characters without a space. Default `tautline`. The thread that all clients share is always `tautline-timer`.
 */
int32_t tautline_options_thread_name(struct tautline_options *options,
                                     const char *name);

/**
 * Has `start` called first and `end` called last on each thread of the client but the one that all clients share, with `user`: to
 * register the thread with a profiler, COM or a Java machine, or to set its priority. Either may be null. They are called on several
 * threads at once, and must return soon. When `tautline_shutdown` has returned `TAUTLINE_OK`, neither is called any more.
 */
int32_t tautline_options_on_thread(struct tautline_options *options,
                                   tautline_thread_fn start,
                                   tautline_thread_fn end,
                                   void *user);

/**
 * Sends the `length` bytes of UTF-8 at `text` as a text message. It is accepted into the outbox, and written at once if the line
 * is ready, and otherwise once it is. The bytes are copied. A NUL is a byte as any other.
 *
 * Threads: any. Never blocks. Allocates memory for a payload of more than 80 bytes, and for a refusal. Makes a system call if the
 * client's thread has to be woken.
 *
 * Errors: `TAUTLINE_E_FULL`, `TAUTLINE_E_NOT_READY`, `TAUTLINE_E_TOO_LARGE`, `TAUTLINE_E_CLOSED`, `TAUTLINE_E_UTF8`,
 * `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_send_text(struct tautline_client client,
                           const char *text,
                           size_t length);

/**
 * Sends the `length` bytes at `data` as a binary message, as `tautline_send_text` does. A null `data` is right with a `length` of 0.
 *
 * Threads: any. Never blocks. Allocates as `tautline_send_text` does.
 *
 * Errors: as those of `tautline_send_text`, without `TAUTLINE_E_UTF8`.
 */
int32_t tautline_send_binary(struct tautline_client client,
                             const uint8_t *data,
                             size_t length);

/**
 * Sends a message of this kind (`TAUTLINE_TEXT`, `TAUTLINE_BINARY`), and waits for room in the outbox for `timeout_ms` at most.
 *
 * Threads: any; on those of a client it does not wait (`TAUTLINE_E_DEADLOCK`). Blocks until there is room, the client is closed, or
 * `timeout_ms` is over.
 *
 * Errors: as those of `tautline_send_text`, with `TAUTLINE_E_TIMEOUT` instead of `TAUTLINE_E_FULL`, and `TAUTLINE_E_DEADLOCK`.
 */
int32_t tautline_send_timeout(struct tautline_client client,
                              int32_t kind,
                              const uint8_t *data,
                              size_t length,
                              uint32_t timeout_ms);

/**
 * Returns the state of the line: one of `TAUTLINE_STATE_…`, which are above 0.
 *
 * Threads: any. Never blocks. Allocates nothing.
 *
 * Errors: `TAUTLINE_E_HANDLE`.
 */
int32_t tautline_state(struct tautline_client client);

/**
 * Writes the counters of the client to `stats`.
 *
 * Threads: any. Never blocks. Allocates nothing.
 *
 * Errors: `TAUTLINE_E_HANDLE`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`.
 */
int32_t tautline_stats(struct tautline_client client, struct tautline_counters *stats);

#ifdef __cplusplus
}
#endif

#endif
