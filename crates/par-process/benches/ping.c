/* A ping-pong of 64 bytes over a Unix stream socket between two processes: prints the seconds of so many round trips, for
 * each line of its input. Ends with its input. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 64 };

static int take(int socket, char *bytes) {
    for (int got = 0; got < LENGTH;) {
        ssize_t count = read(socket, bytes + got, LENGTH - got);
        if (count <= 0)
            return 0;
        got += count;
    }
    return 1;
}

int main(int count, char **arguments) {
    int pair[2], trips = count > 1 ? atoi(arguments[1]) : 1000;
    char bytes[LENGTH] = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    if (fork() == 0) {
        close(pair[0]);
        while (take(pair[1], bytes) && write(pair[1], bytes, LENGTH) == LENGTH) {
        }
        return 0;
    }
    close(pair[1]);
    for (int c; (c = getchar()) != EOF;) {
        struct timespec start, end;
        if (c != '\n')
            continue;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int trip = 0; trip < trips; trip++)
            if (write(pair[0], bytes, LENGTH) != LENGTH || !take(pair[0], bytes))
                return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%.9f\n", (end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) / 1e9);
        fflush(stdout);
    }
    return 0;
}
