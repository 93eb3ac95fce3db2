/*
 * Unloads the library while a client's threads run, as a host does that drops a plugin: unload.exe DLL URL
 *
 * Those threads must not lose their code: the library stays, and the line can still be closed.
 */
#include <windows.h>

#include <stdio.h>

#include <tautline.h>

typedef int32_t (*new_fn)(const char *url, tautline_options **options);
typedef int32_t (*open_fn)(const tautline_options *options, tautline_client *client);
typedef int32_t (*wait_fn)(tautline_client client, uint32_t timeout_ms);
typedef int32_t (*shutdown_fn)(tautline_client client, int32_t how, uint32_t deadline_ms, tautline_undelivered *left);

/* A function of the library. Any type of a function may stand in between, and this one makes no warning. */
#define NAMED(type, name) ((type)(void (*)(void))GetProcAddress(library, name))

int main(int argc, char **argv)
{
    HMODULE library = argc == 3 ? LoadLibraryA(argv[1]) : NULL;
    tautline_options *options = NULL;
    tautline_client client = {0};
    new_fn new_options;
    open_fn open;
    wait_fn wait_ready;
    shutdown_fn end;

    if (library == NULL) {
        fprintf(stderr, "usage: unload DLL URL: error %lu\n", GetLastError());
        return 2;
    }
    new_options = NAMED(new_fn, "tautline_options_new");
    open = NAMED(open_fn, "tautline_open");
    wait_ready = NAMED(wait_fn, "tautline_wait_ready");
    end = NAMED(shutdown_fn, "tautline_shutdown");
    if (new_options(argv[2], &options) != TAUTLINE_OK || open(options, &client) != TAUTLINE_OK ||
        wait_ready(client, 20000) != TAUTLINE_OK) {
        fprintf(stderr, "there is no line\n");
        return 2;
    }
    FreeLibrary(library);
    if (GetModuleHandleA(argv[1]) == NULL) {
        fprintf(stderr, "the library is gone, and its threads run\n");
        fflush(stderr);
        TerminateProcess(GetCurrentProcess(), 1);
    }
    if (end(client, TAUTLINE_CLOSE, 5000, NULL) != TAUTLINE_OK) return 1;
    printf("the library is there\n");
    return 0;
}
