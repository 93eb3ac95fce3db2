/* A host that loads a plugin and unloads it, again and again, and looks at what is left. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OK 0
#define TIMEOUT (-10)
#define CLOSE 0
#define TERMINATE 1

static const char *path, *url;
static int ready, stalled, failures;

static void failed(const char *what, int code) {
    fprintf(stderr, "FAILED: %s: %d\n", what, code);
    failures++;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int entries(const char *folder, const char *beginning) {
    int count = 0;
    struct dirent *entry;
    DIR *all = opendir(folder);
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char name[600], text[64] = "";
        FILE *file;
        if (entry->d_name[0] == '.') continue;
        if (beginning == NULL) {
            count++;
            continue;
        }
        snprintf(name, sizeof name, "%s/%s/comm", folder, entry->d_name);
        file = fopen(name, "r");
        if (file == NULL) continue;
        if (fgets(text, sizeof text, file) != NULL && strncmp(text, beginning, strlen(beginning)) == 0) count++;
        fclose(file);
    }
    if (all != NULL) closedir(all);
    return count;
}

static int descriptors(void) { return entries("/proc/self/fd", NULL) - 1; }

/* How many threads of the library's there are, beside those that may be. The system lists one that was joined for some ms. */
static int threads_beside(int allowed) {
    double until = seconds() + 5;
    int count;
    while ((count = entries("/proc/self/task", "tautline")) > allowed && seconds() < until) usleep(1000);
    return count - allowed;
}

static int threads_of_theirs(void) { return threads_beside(0); }

static long resident_kib(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    if (file != NULL) fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static int is_mapped(const char *name) {
    char text[4096];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(text, sizeof text, maps) != NULL) found |= strstr(text, name) != NULL;
    if (maps != NULL) fclose(maps);
    return found;
}

typedef int (*begin_fn)(const char *);
typedef int (*number_fn)(unsigned);
typedef int (*end_fn)(int, unsigned);
typedef const char *(*text_fn)(void);

static void *symbol(void *plugin, const char *name) {
    void *found = dlsym(plugin, name);
    if (found == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(2);
    }
    return found;
}

static void *load(void) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return plugin;
}

struct plugin {
    void *handle;
    begin_fn begin;
    number_fn talk, fill;
    end_fn end;
    text_fn why;
};

static struct plugin loaded(void) {
    struct plugin plugin;
    plugin.handle = load();
    *(void **)&plugin.begin = symbol(plugin.handle, "plugin_begin");
    *(void **)&plugin.talk = symbol(plugin.handle, "plugin_talk");
    *(void **)&plugin.fill = symbol(plugin.handle, "plugin_fill");
    *(void **)&plugin.end = symbol(plugin.handle, "plugin_end");
    *(void **)&plugin.why = symbol(plugin.handle, "plugin_why");
    return plugin;
}

static struct plugin begun(const char *file) {
    struct plugin plugin;
    int code;
    path = file;
    plugin = loaded();
    if ((code = plugin.begin(url)) != OK) failed("begin", code);
    return plugin;
}

static void talks(const struct plugin *plugin) {
    int code = ready ? plugin->talk(5000) : stalled ? plugin->fill(5000) : OK;
    if (code != OK) failed("talk", code);
}

static void ends(struct plugin *plugin) {
    static int count;
    /* Where the server reads nothing, a close ends at its own limit: every other time, because that takes its time. */
    int code = plugin->end(stalled && count++ % 2 == 0 ? CLOSE : TERMINATE, 5000);
    if (code != OK) failed("end", code);
    dlclose(plugin->handle);
}

static void *cycle(void *file) {
    struct plugin plugin = begun(file);
    talks(&plugin);
    ends(&plugin);
    return NULL;
}

/* The host uses TLS of its own, by the library that the plugin's uses, too. */
static void use_tls(void) {
    void *tls = dlopen("libssl.so.3", RTLD_NOW);
    void *(*method)(void), *(*new_context)(void *), *(*new_session)(void *);
    void (*free_session)(void *), (*free_context)(void *);
    int (*set_fd)(void *, int), (*shake_hands)(void *), fd = socket(AF_INET, SOCK_STREAM, 0);
    void *context, *session;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (tls == NULL) {
        printf("the host has no libssl.so.3\n");
        return;
    }
    *(void **)&method = symbol(tls, "TLS_client_method");
    *(void **)&new_context = symbol(tls, "SSL_CTX_new");
    *(void **)&free_context = symbol(tls, "SSL_CTX_free");
    *(void **)&new_session = symbol(tls, "SSL_new");
    *(void **)&free_session = symbol(tls, "SSL_free");
    *(void **)&set_fd = symbol(tls, "SSL_set_fd");
    *(void **)&shake_hands = symbol(tls, "SSL_connect");
    context = new_context(method());
    session = new_session(context);
    if (ready && strncmp(url, "wss:", 4) == 0) {
        address.sin_port = htons((unsigned short)atoi(strrchr(url, ':') + 1));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) failed("the host's connection", 0);
        if (set_fd(session, fd) != 1 || shake_hands(session) != 1) failed("the host's own TLS", 0);
        printf("the host has shaken hands by TLS of its own\n");
    }
    free_session(session);
    free_context(context);
    close(fd);
}

/*
 * host cycles PLUGIN URL MOOD COUNT COPY: from the main thread and from threads that are joined, in turn, beside a second copy
 * of the plugin.
 */
static int cycles(const char *mood, int count, const char *copy) {
    char *plugin = strdup(path);
    struct plugin other = begun(copy);
    int i, settled = 0, theirs, early = count / 10 > 100 ? 100 : count / 10 + 1;
    long memory = 0;
    talks(&other);
    /* Its threads, and the timer that all share. Not the one that dials, which comes and goes. */
    theirs = ready ? entries("/proc/self/task", "tautline") : 3;
    for (i = 0; i < count && failures == 0; i++) {
        int more;
        if (i % 2 == 0) {
            cycle(plugin);
        } else {
            pthread_t thread;
            if (pthread_create(&thread, NULL, cycle, plugin) != 0) return 2;
            pthread_join(thread, NULL);
        }
        if ((more = threads_beside(theirs)) > 0) failed("threads of the plugin's", more);
        if (i == early) {
            settled = descriptors();
            memory = resident_kib();
        }
        /* The other copy may be dialling. */
        if (i > early && descriptors() > settled + (ready ? 0 : 4)) failed("descriptors", descriptors() - settled);
    }
    if (!is_mapped("libtautline_c.so")) failed("the library is not mapped", 0);
    if (is_mapped("plugin.so")) failed("the plugin is mapped", 0);
    talks(&other);
    memory = resident_kib() - memory;
    use_tls();
    ends(&other);
    if ((theirs = threads_of_theirs()) != 0) failed("threads", theirs);
    printf("%s: %d cycles, %d descriptors, %+ld KiB since the first %d\n", mood, i, descriptors(), memory, early);
    if (count >= 1000 && memory > 1024) failed("memory", (int)memory);
    free(plugin);
    return failures != 0;
}

/* How many threads of the library's run, or are about to. */
static int busy(void) {
    struct dirent *entry;
    DIR *all = opendir("/proc/self/task");
    int count = 0;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char name[600], state = 0;
        FILE *file;
        snprintf(name, sizeof name, "/proc/self/task/%s/stat", entry->d_name);
        file = fopen(name, "r");
        if (file == NULL) continue;
        count += fscanf(file, "%*d (tautline%*[^)]) %c", &state) == 1 && state != 'S';
        fclose(file);
    }
    if (all != NULL) closedir(all);
    return count;
}

/* Waits until each thread of the library's has slept for a while: an attempt waits for its server by then, or for its next one. */
static void until_asleep(void) {
    double until = seconds() + 20, since = seconds();
    while (seconds() < since + 0.05 && seconds() < until) {
        if (busy() > 0) since = seconds();
        usleep(1000);
    }
}

/* host load PLUGIN URL MOOD WHEN: it opens a line in its constructor, and ends it there or in its destructor. */
static int at_load(const char *when) {
    double began = seconds(), took;
    void *plugin;
    int *waited, code, ends_at_load = strcmp(when, "at-load") == 0;
    number_fn wait;
    end_fn end;
    setenv("PLUGIN_OPENS_AT_LOAD", url, 1);
    setenv(ends_at_load ? "PLUGIN_ENDS_AT_LOAD" : "PLUGIN_ENDS_AT_UNLOAD", "1", 1);
    plugin = load();
    took = seconds() - began;
    waited = symbol(plugin, "plugin_waited");
    printf("loaded after %.2f s, the wait returned %d\n", took, *waited);
    if (took > 2) failed("the constructor took longer than its wait", (int)took);
    if (*waited != OK && *waited != TIMEOUT) failed("the wait in the constructor", *waited);
    if (ends_at_load) {
        *(void **)&end = symbol(plugin, "plugin_end");
        if ((code = end(TERMINATE, 5000)) != OK) failed("the end after the load", code);
    } else if (ready) {
        *(void **)&wait = symbol(plugin, "plugin_wait");
        if ((code = wait(5000)) != OK) failed("the line after the load", code);
    } else {
        until_asleep();
        *(void **)&wait = symbol(plugin, "plugin_wait");
        if ((code = wait(0)) != TIMEOUT) failed("the line is not up", code);
    }
    began = seconds();
    dlclose(plugin);
    took = seconds() - began;
    printf("unloaded after %.2f s\n", took);
    if (took > 1) failed("the destructor took longer than its deadline", (int)took);
    if ((code = threads_of_theirs()) != 0) failed("threads of the plugin's", code);
    return failures != 0;
}

/* host left PLUGIN URL: it is unloaded without an end. */
static int left_open(void) {
    void *plugin = load();
    begin_fn begin;
    number_fn talk;
    int code;
    *(void **)&begin = symbol(plugin, "plugin_begin");
    *(void **)&talk = symbol(plugin, "plugin_talk");
    if ((code = begin(url)) != OK) failed("begin", code);
    if ((code = talk(5000)) != OK) failed("talk", code);
    dlclose(plugin);
    if (is_mapped("plugin.so")) failed("the plugin is mapped", 0);
    usleep(100 * 1000);
    printf("left open: %d threads go on\n", entries("/proc/self/task", "tautline"));
    return failures != 0;
}

/*
 * host rust PLUGIN URL: one in Rust, which connects in its constructor, and closes in its destructor. That runs at the end of
 * the process: the system unloads no module that a thread has yet to run a destructor of, such as that of a client.
 */
static int rust(void) {
    double began = seconds();
    void *plugin;
    number_fn wait;
    int code;
    setenv("PLUGIN_OPENS_AT_LOAD", url, 1);
    plugin = load();
    printf("dlopen: %.2f s\n", seconds() - began);
    *(void **)&wait = symbol(plugin, "plugin_wait");
    if ((code = wait(5000)) != OK) failed("the line after the load", code);
    dlclose(plugin);
    if (!is_mapped("librust_plugin.so")) failed("it was unloaded with a client in it", 0);
    return failures != 0;
}

/* A line is opened while this resource has no more than that, and again when it has. Nothing is left of the first. */
static int starved_of(const char *what, int resource, rlim_t most) {
    struct plugin plugin = loaded();
    struct rlimit before, limit;
    int code, left = descriptors(), threads;
    getrlimit(resource, &before);
    limit = before;
    limit.rlim_cur = most;
    setrlimit(resource, &limit);
    code = plugin.begin(url);
    setrlimit(resource, &before);
    printf("without %s: %d: %s\n", what, code, plugin.why());
    if ((threads = threads_of_theirs()) != 0) failed("threads", threads);
    if (descriptors() != left) failed("descriptors", descriptors() - left);
    if ((code = plugin.begin(url)) != OK) failed("begin", code);
    ready = 1;
    talks(&plugin);
    ends(&plugin);
    return failures != 0;
}

/* host no-descriptors PLUGIN URL: two are not enough. */
static int no_descriptors(void) { return starved_of("descriptors", RLIMIT_NOFILE, (rlim_t)descriptors() + 2); }

/* host no-threads PLUGIN URL: there is no room for the stack of a thread, but some for everything else. */
static int no_threads(void) {
    long pages = 0;
    FILE *file;
    mallopt(M_TOP_PAD, 16 << 20);
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    free(malloc(1 << 20));
    /* What is mapped once, and stays. */
    load();
    file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld", &pages) != 1) return 2;
    fclose(file);
    return starved_of("threads", RLIMIT_AS, (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (256 << 10));
}

/* host signal PLUGIN URL: it collects SIGTERM by sigwait, as it does after its plugins have begun. */
static int signals(void) {
    struct plugin plugin = begun(path);
    sigset_t set;
    int signal = 0;
    ready = 1;
    talks(&plugin);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGTERM);
    sigwait(&set, &signal);
    printf("signal %d\n", signal);
    ends(&plugin);
    return failures != 0;
}

/* Counts the threads of the library's, and those of them that have another policy than the usual one. */
static void policies(int *count, int *others) {
    struct dirent *entry;
    DIR *all = opendir("/proc/self/task");
    *count = *others = 0;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char name[600], text[64] = "";
        FILE *file;
        snprintf(name, sizeof name, "/proc/self/task/%s/comm", entry->d_name);
        file = fopen(name, "r");
        if (file == NULL) continue;
        if (fgets(text, sizeof text, file) != NULL && strncmp(text, "tautline", 8) == 0) {
            ++*count;
            *others += sched_getscheduler(atoi(entry->d_name)) != SCHED_OTHER;
        }
        fclose(file);
    }
    if (all != NULL) closedir(all);
}

/* host fifo PLUGIN URL: its thread has a real-time policy when its plugins begin. */
static int fifo(void) {
    struct sched_param priority = {.sched_priority = 1};
    struct plugin plugin;
    double until;
    int count, others;
    if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
        printf("this process may not have a real-time policy\n");
        return 0;
    }
    plugin = begun(path);
    ready = 1;
    talks(&plugin);
    until = seconds() + 5;
    /* One that has just begun may not have left it yet. */
    do policies(&count, &others);
    while (others > 0 && seconds() < until && usleep(1000) == 0);
    if (count == 0 || others > 0) failed("threads with a real-time policy", others);
    if (sched_getscheduler(0) != SCHED_FIFO) failed("the policy of the host's own thread", sched_getscheduler(0));
    ends(&plugin);
    printf("%d threads, none with a real-time policy\n", count);
    return failures != 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    path = argv[2];
    url = argv[3];
    ready = argc > 4 && strcmp(argv[4], "alive") == 0;
    stalled = argc > 4 && strcmp(argv[4], "stalled") == 0;
    if (strcmp(argv[1], "left") == 0) return left_open();
    if (strcmp(argv[1], "rust") == 0) return rust();
    if (strcmp(argv[1], "signal") == 0) return signals();
    if (strcmp(argv[1], "fifo") == 0) return fifo();
    if (strcmp(argv[1], "no-descriptors") == 0) return no_descriptors();
    if (strcmp(argv[1], "no-threads") == 0) return no_threads();
    if (strcmp(argv[1], "load") == 0 && argc == 6) return at_load(argv[5]);
    if (strcmp(argv[1], "cycles") == 0 && argc == 7) return cycles(argv[4], atoi(argv[5]), argv[6]);
    return 2;
}
