/* Stands for a name server that does not answer, by LD_PRELOAD. */
#include <netdb.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    (void)node, (void)service, (void)hints, (void)found;
    usleep(20 * 1000);
    return EAI_AGAIN;
}
