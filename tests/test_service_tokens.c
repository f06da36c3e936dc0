/* test_service_tokens.c - tokens counted while a prompt is typed: the newest text's, in
 * time, with the tokenizers of the shipped model. */
#include "tests/view_help.h"
#include "tui/service_tokens.h"

#include <locale.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "assets/demo"

enum { KIND = 7 };

struct counting {
    struct model model;
    struct worker *worker;
    struct view *view;
    struct service_tokens *tokens;
};

static void begin(struct counting *c, const char *path)
{
    struct err e = { 0 };

    *c = (struct counting){ .view = make_view(NULL, NULL), .model = *fake_model() };
    if (path && !model_open(&c->model, path, true, &e)) fail_msg("%s", e.text);
    assert_true(worker_start(&c->worker, &e));
    assert_true(service_tokens_start(&c->tokens, &c->model, c->worker, KIND, c->view, &e));
}

/* Until the worker has answered so many times; the last answer may be another's. */
static void take(struct counting *c, int jobs)
{
    for (int i = 0; i < jobs; i++) {
        struct pollfd p = { .fd = worker_fd(c->worker), .events = POLLIN };
        struct worker_job *j;
        assert_true(poll(&p, 1, 20000) > 0);
        if ((j = worker_take(c->worker))) j->done(j, NULL);
    }
}

static void end(struct counting *c)
{
    struct worker_job *j;

    worker_stop(c->worker);
    while ((j = worker_take(c->worker))) j->done(j, NULL);
    worker_free(c->worker);
    service_tokens_free(c->tokens);
    view_free(c->view);
}

static void test_counts(void **state)
{
    (void)state;
    struct counting c;
    struct timespec a, b;
    double worst = 0;

    if (access(MODEL "/tokenizer/vocab.json", R_OK)) skip();
    begin(&c, MODEL);
    service_tokens_update(c.tokens);
    service_tokens_update(c.tokens); /* nothing new */
    take(&c, 1);
    has_not(c.view, "/77");
    type(c.view, "a");
    service_tokens_update(c.tokens);
    take(&c, 1);
    has(c.view, " CLIP 3/77  T5 ");
    press(c.view, K_LEFT); /* no other text */
    service_tokens_update(c.tokens);
    for (int i = 0; i < 200; i++) {
        type(c.view, i % 5 ? "a" : " ");
        clock_gettime(CLOCK_MONOTONIC, &a);
        service_tokens_update(c.tokens);
        take(&c, 1);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
        if (ms > worst) worst = ms;
    }
    print_message("the slowest of 200 keys was counted after %.2f ms\n", worst);
    has(c.view, "/77  T5 ");
    /* more keys than can be counted: the newest is */
    for (int i = 0; i < 50; i++) {
        type(c.view, "x");
        service_tokens_update(c.tokens);
    }
    take(&c, 50);
    ctrl(c.view, 'e');
    ctrl(c.view, 'u');
    type(c.view, "a");
    service_tokens_update(c.tokens);
    take(&c, 1);
    has(c.view, " CLIP 3/77  T5 ");
    end(&c);
}

/* A model without tokenizers: nothing is counted, nothing is said. */
static void test_no_tokenizer(void **state)
{
    (void)state;
    struct counting c;

    begin(&c, NULL);
    type(c.view, "abc");
    service_tokens_update(c.tokens);
    take(&c, 1);
    has_not(c.view, "/77");
    end(&c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(test_counts), cmocka_unit_test(test_no_tokenizer) };

    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
