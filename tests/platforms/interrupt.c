/*
 * Presses Ctrl-C on a program: interrupt.exe TEXT PROGRAM [ARGUMENT]...
 *
 * Runs the program with an empty standard input that stays open, shows what it prints, and interrupts it once that has
 * TEXT in it. Ends with the program's exit code, with 124 if it has not ended after half a minute, and with 125 if TEXT never
 * came or it can't be run. No argument may have a quotation mark in it.
 *
 * x86_64-w64-mingw32-gcc -o interrupt.exe interrupt.c
 */
#include <windows.h>

#include <stdio.h>
#include <string.h>

enum { LIMIT_MS = 30000, NOT_ENDED = 124, NOT_RUN = 125 };

static int give_up(const char *what)
{
    fprintf(stderr, "interrupt: %s: error %lu\n", what, GetLastError());
    return NOT_RUN;
}

/* The program has a console of its own, so that nobody else is interrupted. This one joins it, and ignores the key. */
static BOOL press(DWORD program)
{
    FreeConsole();
    return AttachConsole(program) && SetConsoleCtrlHandler(NULL, TRUE) && GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0);
}

int main(int argc, char **argv)
{
    SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};
    STARTUPINFOA start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION program;
    char line[4096] = "", said[65536] = "";
    HANDLE typing, output;
    DWORD began = GetTickCount(), length = 0, there, read, code;
    int at, is_interrupted = 0, has_ended = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: interrupt TEXT PROGRAM [ARGUMENT]...\n");
        return NOT_RUN;
    }
    for (at = 2; at < argc; at++) {
        size_t used = strlen(line);
        if (snprintf(line + used, sizeof line - used, "\"%s\" ", argv[at]) >= (int)(sizeof line - used))
            return give_up("the arguments are too long");
    }
    if (!CreatePipe(&start.hStdInput, &typing, &inherited, 0) || !CreatePipe(&output, &start.hStdOutput, &inherited, 0))
        return give_up("a pipe");
    start.hStdError = start.hStdOutput;
    SetHandleInformation(typing, HANDLE_FLAG_INHERIT, 0);
    SetHandleInformation(output, HANDLE_FLAG_INHERIT, 0);
    if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &start, &program))
        return give_up(line);
    CloseHandle(start.hStdInput);
    CloseHandle(start.hStdOutput);
    /* The end of its output tells nothing: the system's process for its console holds that too. */
    while (!has_ended) {
        has_ended = WaitForSingleObject(program.hProcess, 20) == WAIT_OBJECT_0;
        if (!has_ended && GetTickCount() - began > LIMIT_MS) TerminateProcess(program.hProcess, NOT_ENDED);
        while (PeekNamedPipe(output, NULL, 0, NULL, &there, NULL) && there > 0 && length < sizeof said - 1 &&
               ReadFile(output, said + length, sizeof said - 1 - length, &read, NULL)) {
            fwrite(said + length, 1, read, stdout);
            length += read;
            said[length] = '\0';
        }
        if (!is_interrupted && !has_ended && strstr(said, argv[1])) {
            is_interrupted = 1;
            if (!press(program.dwProcessId)) {
                TerminateProcess(program.hProcess, NOT_RUN);
                return give_up("Ctrl-C");
            }
        }
    }
    if (!GetExitCodeProcess(program.hProcess, &code)) return give_up("its exit code");
    if (!is_interrupted) {
        fprintf(stderr, "interrupt: \"%s\" never came, and it has ended with %lu\n", argv[1], code);
        return NOT_RUN;
    }
    return (int)code;
}
