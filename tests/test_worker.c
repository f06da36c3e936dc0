/* test_worker.c - the studio's worker thread: order, replacing, the end. */
#include "tui/worker.h"

#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static sem_t begun, go;
static int order[64], ran;

struct test_job {
    struct worker_job job;
    int number;
    bool slow; /* tells when it has begun, and waits to be let go */
};

static void run(struct worker_job *j)
{
    struct test_job *t = (struct test_job *)j;

    if (t->slow) {
        sem_post(&begun);
        sem_wait(&go);
    }
    order[ran++] = t->number;
}

static void done(struct worker_job *j, void *owner)
{
    *(int *)owner += j->ran ? 1 : 100;
    free(j);
}

static void submit(struct worker *w, int kind, int number, bool slow)
{
    struct test_job *t = calloc(1, sizeof *t);

    *t = (struct test_job){ .job = { .kind = kind, .run = run, .done = done }, .number = number, .slow = slow };
    worker_submit(w, &t->job);
}

static bool ready(struct worker *w, int ms)
{
    return poll(&(struct pollfd){ .fd = worker_fd(w), .events = POLLIN }, 1, ms) == 1;
}

/* Takes until `count` have come back. */
static int take(struct worker *w, int count)
{
    int sum = 0;

    while (count) {
        struct worker_job *j = worker_take(w);
        if (j) {
            j->done(j, &sum);
            count--;
        } else if (!ready(w, 10000)) {
            fail_msg("nothing came back in 10 s");
        }
    }
    return sum;
}

static int set_up(void **state)
{
    struct worker *w = NULL;

    ran = 0;
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    if (!worker_start(&w, NULL)) return -1;
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    worker_stop(*state);
    worker_free(*state);
    return 0;
}

static void test_in_order(void **state)
{
    assert_false(ready(*state, 0));
    for (int i = 0; i < 20; i++) submit(*state, 0, i, false);
    assert_int_equal(take(*state, 20), 20);
    for (int i = 0; i < 20; i++) assert_int_equal(order[i], i);
    assert_false(ready(*state, 0));
    assert_null(worker_take(*state));
}

static void test_the_newest_of_a_kind(void **state)
{
    submit(*state, 1, 0, true);
    sem_wait(&begun); /* it runs: it is no longer replaced */
    submit(*state, 1, 1, false);
    submit(*state, 2, 2, false);
    submit(*state, 1, 3, false);
    submit(*state, 0, 4, false);
    submit(*state, 0, 5, false);
    submit(*state, 1, 6, false);
    assert_int_equal(take(*state, 2), 200); /* 1 and 3 come back at once, and were not run */
    sem_post(&go);
    assert_int_equal(take(*state, 5), 5);
    assert_int_equal(ran, 5);
    for (int i = 0; i < 5; i++) assert_int_equal(order[i], ((const int[]){ 0, 2, 4, 5, 6 })[i]);
}

static void test_the_end(void **state)
{
    submit(*state, 0, 0, true);
    sem_wait(&begun);
    submit(*state, 0, 1, false);
    submit(*state, 1, 2, false);
    sem_post(&go);
    worker_stop(*state);
    worker_stop(*state); /* twice is once */
    int sum = take(*state, 3);
    assert_int_equal(sum / 100 + sum % 100, 3);
    assert_true(ran >= 1 && order[0] == 0);
    assert_false(ready(*state, 0));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_newest_of_a_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_end, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
