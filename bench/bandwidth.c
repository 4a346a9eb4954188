/* What the memory gives to plain reading (exec/cpu/bounds.h says how).
 * usage: bandwidth BYTES THREADS -> GB/s on standard output */
#include <stdio.h>
#include <stdlib.h>

#include "exec/cpu/bounds.h"

int main(int argc, char **argv)
{
    bulla_error error = {0};
    uint64_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) : UINT64_C(1) << 30;
    unsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : thread_cores();
    struct thread_team *team = NULL;
    double speed;
    int code = thread_team_start(threads, &team, &error);
    if (code == BULLA_OK)
        code = bounds_read_new(team, bytes, &speed, &error);
    thread_team_stop(team);
    if (code != BULLA_OK) {
        fprintf(stderr, "bandwidth: %s\n", error.text);
        return 1;
    }
    printf("%.2f\n", speed * 1e-9);
    return 0;
}
