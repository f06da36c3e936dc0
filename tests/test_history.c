/* test_history.c - `sluice queue` and `sluice history` as people type them: the real
 * binary, on the small random model, in a place of its own. */
#include "engine/file.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[FILE_PATH_MAX], binary[FILE_PATH_MAX], model[FILE_PATH_MAX];

/* What it prints, both streams, after `cd scratch`. */
static char said[1 << 16];

static __attribute__((format(printf, 2, 3))) const char *sluice(int status, const char *fmt, ...)
{
    char words[2048], line[3 * FILE_PATH_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    snprintf(line, sizeof line, "cd %s && %s %s 2>&1", scratch, binary, words);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    said[fread(said, 1, sizeof said - 1, f)] = '\0';
    int rc = pclose(f);
    if (!WIFEXITED(rc) || WEXITSTATUS(rc) != status)
        fail_msg("sluice %s: status %d, not %d: %s", words, WEXITSTATUS(rc), status, said);
    return said;
}

static void says(const char *what)
{
    if (!strstr(said, what))
        fail_msg("\"%s\" is not in: %s", what, said);
}

static void says_not(const char *what)
{
    if (strstr(said, what))
        fail_msg("\"%s\" is in: %s", what, said);
}

static bool exists(const char *name)
{
    char path[FILE_PATH_MAX];
    return file_exists(path_in(scratch, name, path));
}

#define SMALL "-m dev96 --size 32x32 --steps 2 --threads 1"

static void a_queue_is_made(void **state)
{
    (void)state;
    says(sluice(0, "queue list"));
    says("the queue is empty");
    sluice(0, "queue add " SMALL " --seed 3 -o fox.png 'a fox'");
    assert_string_equal(said, "1\n");
    sluice(0, "queue add " SMALL " --seed 3 -o pets.png --wildcards all 'a {red|blue} {cat|dog}'");
    sluice(0, "queue add " SMALL " --history off 'secret'");
    sluice(0, "queue list");
    says("    1  waiting");
    says("a red cat");
    says("0/4");
    sluice(0, "queue run");
    says("fox.png");
    assert_true(exists("fox.png") && exists("pets.png") && exists("pets-3.png"));
    sluice(0, "queue list --json");
    json_t *list = json_loads(said, 0, NULL);
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "state")), "done");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 1), "made")), 4);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "state")), "done");
    json_decref(list);
    sluice(0, "history");
    says("a blue dog");
    says_not("secret");

    /* One that fails says so, stays, and does not stop the others. */
    char dir[FILE_PATH_MAX];
    mkdir(path_in(scratch, "gone", dir), 0700);
    sluice(0, "queue add " SMALL " -o gone/x.png fails");
    sluice(0, "queue add " SMALL " -o after.png after");
    rmdir(dir);
    sluice(1, "queue run");
    says("there is no folder");
    assert_true(exists("after.png"));
    sluice(0, "queue list");
    says("    4  failed");
    mkdir(dir, 0700);
    sluice(0, "queue run 4"); /* named, it is tried again */
    assert_true(exists("gone/x.png"));
    sluice(1, "queue run 4");
    says("job 4 is done");
    sluice(0, "queue add " SMALL " waits");
    sluice(0, "queue clear");
    says("removed 5 jobs");
    sluice(1, "queue clear 4");
    says("there is no job 4");
    sluice(0, "queue clear --all");
    says("removed 1 job\n");
    sluice(2, "queue run fox");
    sluice(2, "queue nonsense");
    says("use list, add, clear or run");
    sluice(2, "queue add " SMALL);
    says("the prompt is missing");
    sluice(2, "queue add " SMALL " --wildcards none x");
    sluice(1, "queue add " SMALL " --wildcards all 'a {b'");
    says("column 3: this { is not closed");
    sluice(1, "queue add " SMALL " --wildcards 2 'a __colour__'");
    says("colour.txt: cannot open");
}

static void a_list_gives_its_lines(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    mkdir(path_in(scratch, "lists", path), 0700);
    scratch_write(path_in(scratch, "lists/size.txt", path), "small\nlarge\n", 12);
    sluice(0, "generate " SMALL " --wildcards all --lists lists -o sized.png 'a __size__ house'");
    assert_true(exists("sized.png") && exists("sized-1.png"));
    sluice(0, "history search large");
    says("a large house");
}

static void the_history_is_told(void **state)
{
    (void)state;
    sluice(0, "generate " SMALL " --seed 77 -o 'tree.png' 'a lonely tree, \"quoted\"'");
    sluice(0, "generate " SMALL " --seed 78 -o 'no.png' --no-history 'unseen tree'");
    sluice(0, "history list -n 1");
    says("a lonely tree, \"quoted\"");
    says("1 of ");
    sluice(0, "history search LONE tre");
    says_not("unseen");
    long long id = strtoll(said, NULL, 10);
    sluice(0, "history show %lld", id);
    says("tree.png");
    says("seed         77");
    says("sampler      euler");
    sluice(0, "history export lonely");
    json_t *all = json_loads(said, 0, NULL), *one = json_array_get(all, 0);
    assert_int_equal(json_array_size(all), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(one, "settings"), "seed")), 77);
    json_decref(all);

    sluice(0, "history trash %lld", id);
    assert_false(exists("tree.png"));
    sluice(0, "history search lonely");
    assert_string_equal(said, "no pictures\n");
    sluice(0, "history list --trash");
    says("lonely");
    sluice(0, "history restore %lld", id);
    assert_true(exists("tree.png"));
    sluice(0, "history forget %lld", id);
    sluice(1, "history show %lld", id);
    says("there is no picture");
    sluice(0, "history scan .");
    says(": 3 added, "); /* with the job that was not to be noted */
    sluice(0, "history search unseen");
    says("unseen tree");
    sluice(0, "history scan .");
    says(": 0 added, ");
    sluice(1, "history scan nowhere");
    sluice(2, "history show x");
    sluice(2, "history nonsense");
    sluice(2, "history list -n 0");
}

/* Without a place for it, pictures are made all the same. */
static void no_history_is_no_fault(void **state)
{
    (void)state;
    char home[FILE_PATH_MAX];
    snprintf(home, sizeof home, "%s", getenv("XDG_STATE_HOME"));
    setenv("XDG_STATE_HOME", "/proc/nothing", 1);
    sluice(0, "generate " SMALL " -o nowhere.png x");
    says("the history is not kept");
    assert_true(exists("nowhere.png"));
    sluice(1, "queue list");
    setenv("XDG_STATE_HOME", home, 1);
}

static int begin(void **state)
{
    (void)state;
    char home[FILE_PATH_MAX];
    const char *build = getenv("SLUICE_BUILD");
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    scratch_make_cache(scratch);
    setenv("XDG_STATE_HOME", path_in(scratch, "state", home), 1);
    setenv("XDG_CONFIG_HOME", path_in(scratch, "config", home), 1);
    assert_non_null(realpath(path_in(build ? build : "build", "sluice", home), binary));
    golden_make("dev96", path_in(scratch, "dev96", model));
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_is_made),
        cmocka_unit_test(a_list_gives_its_lines),
        cmocka_unit_test(the_history_is_told),
        cmocka_unit_test(no_history_is_no_fault),
    };
    return cmocka_run_group_tests_name("history", tests, begin, end);
}
