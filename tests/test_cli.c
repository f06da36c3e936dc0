/* test_cli.c - the program as people run it: the real binary, started anew for
 * each case, with what it prints, its exit status and every file it leaves.
 *
 * What is wrong is refused with exactly one line on stderr that names the file
 * and the fault; whatever happens, no half-written and no temporary file stays.
 * Damaged models are the shipped one with one file changed. */
#include "engine/file.h"
#include "engine/hash.h"
#include "engine/image.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/setting.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char scratch[64], work[96], demo[96], bad[96], binary[FILE_PATH_MAX], source[FILE_PATH_MAX];

/* --- files ------------------------------------------------------------------------------ */

static __attribute__((format(printf, 1, 2))) const char *text_of(const char *fmt, ...)
{
    static char buf[64][1024];
    static int turn;
    char *to = buf[turn++ % 64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(to, sizeof buf[0], fmt, ap);
    va_end(ap);
    return to;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *slurp(const char *path, size_t *bytes)
{
    struct err e = { 0 };
    char *data = file_read(path, 1 << 28, bytes, &e);
    if (!data)
        fail_msg("%s", e.text);
    return data;
}

static void spill_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names and sizes of what is in the working folder, sorted, malloc'd. */
static char *listing(void)
{
    char *names[512], *all;
    size_t n = 0, length;
    DIR *d = opendir(work);
    assert_non_null(d);
    for (const struct dirent *f; (f = readdir(d)) && n < 512;)
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, ".."))
            names[n++] = strdup(f->d_name);
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    FILE *f = open_memstream(&all, &length);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        stat(text_of("%s/%s", work, names[i]), &st);
        fprintf(f, "%s %lld\n", names[i], (long long)st.st_size);
        free(names[i]);
    }
    fclose(f);
    return all;
}

static void work_clear(void)
{
    remove_tree(work);
    assert_int_equal(mkdir(work, 0777), 0);
}

/* --- running ---------------------------------------------------------------------------- */

struct result {
    int status; /* exit status, or 128 + the signal that killed it */
    char *out, *err;
};

/* How a run differs from the plain one. */
struct manner {
    rlim_t file_limit;         /* 0: none */
    const char *when;          /* text on stdout at which `signal` is sent, NULL: never */
    int signal, times;         /* sent `times` times, with a little time between */
    bool close_out_at_when;    /* close our end of its stdout then, instead */
    const char *out_to;        /* its stdout is this file instead of a pipe; "": closed */
    bool all_closed;           /* stdin, stdout and stderr closed */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void child(const char *const *args, const struct manner *m, int out, int err)
{
    const char *argv[64] = { "sluice" };
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    int in = open("/dev/null", O_RDONLY);
    if (m->out_to && *m->out_to)
        out = open(m->out_to, O_WRONLY);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    if (m->out_to && !*m->out_to)
        close(1);
    if (m->all_closed)
        close(0), close(1), close(2);
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    if (m->file_limit)
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ m->file_limit, m->file_limit });
    /* cmocka's parent may have changed these */
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    setenv("HOME", scratch, 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("XDG_DATA_HOME");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_STATE_HOME");
    if (chdir(work) == 0)
        execv(binary, (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* Appends what fd gives to the string; false at its end. */
static bool take(int fd, char **text, size_t *n)
{
    char buf[1 << 14];
    ssize_t got = read(fd, buf, sizeof buf);
    if (got <= 0)
        return false;
    *text = realloc(*text, *n + (size_t)got + 1);
    assert_non_null(*text);
    memcpy(*text + *n, buf, (size_t)got);
    *n += (size_t)got;
    (*text)[*n] = '\0';
    return true;
}

static struct result run_how(const struct manner *m, const char *const *args)
{
    struct result r = { 0, strdup(""), strdup("") };
    size_t n[2] = { 0, 0 };
    int out[2], err[2], status;
    if (pipe(out) || pipe(err))
        fail_msg("no pipe");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(args, m, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    double until = now() + 120;
    bool waiting = m->when != NULL;
    struct pollfd fd[2] = { { out[0], POLLIN, 0 }, { err[0], POLLIN, 0 } };
    while (fd[0].fd >= 0 || fd[1].fd >= 0) {
        if (poll(fd, 2, 1000) < 0 || now() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            fail_msg("sluice %s ... did not end", args[0]);
        }
        for (int i = 0; i < 2; i++)
            if (fd[i].revents && !take(fd[i].fd, i ? &r.err : &r.out, &n[i])) {
                close(fd[i].fd);
                fd[i].fd = -1;
            }
        if (waiting && strstr(r.out, m->when)) {
            waiting = false;
            if (m->close_out_at_when) {
                close(fd[0].fd);
                fd[0].fd = -1;
            }
            for (int i = 0; i < m->times; i++) {
                kill(pid, m->signal);
                pause_ms(5);
            }
        }
    }
    waitpid(pid, &status, 0);
    r.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (waiting)
        fail_msg("sluice %s ended without ever printing %s: %s", args[0], m->when, r.err);
    return r;
}

#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define run(...) run_how(&(struct manner){ 0 }, LIST(__VA_ARGS__))

static void result_free(struct result *r)
{
    free(r->out);
    free(r->err);
}

/* One line of printable text that begins with the program's name. */
static void check_line(const struct result *r, const char *what)
{
    const char *end = strchr(r->err, '\n');
    if (strncmp(r->err, "sluice", 6) || !end || end[1])
        fail_msg("%s: stderr is not one line \"sluice...\": \"%s\"", what, r->err);
    for (const char *s = r->err; s < end; s++)
        if (iscntrl((unsigned char)*s))
            fail_msg("%s: control character in \"%s\"", what, r->err);
}

static void check_names(const char *what, const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (!strstr(text, names[i]))
            fail_msg("%s: \"%s\" does not say \"%s\"", what, text, names[i]);
}

/* Runs; it must end with `status`, one line that has all of `names`, nothing on
 * stdout, and the working folder as it was. */
static void refused_how(const struct manner *m, int status, const char *const *names, const char *const *args)
{
    char *before = listing();
    struct result r = run_how(m, args);
    char *after = listing();
    const char *what = text_of("sluice %s %s", args[0], args[1] ? args[1] : "");
    if (r.status != status)
        fail_msg("%s: exit status %d, expected %d: %s", what, r.status, status, r.err);
    check_line(&r, what);
    check_names(what, r.err, names);
    if (*r.out)
        fail_msg("%s: printed \"%s\"", what, r.out);
    if (strcmp(before, after))
        fail_msg("%s: files were\n%sand are\n%s", what, before, after);
    free(before);
    free(after);
    result_free(&r);
}

#define refused(status, names, ...) refused_how(&(struct manner){ 0 }, status, names, LIST(__VA_ARGS__))
#define NAMES(...) LIST(__VA_ARGS__)

/* The options that make a run short. */
#define QUICK "generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", "1"

/* A picture of more than SMALL bytes; a limit below 1024 stops LLVM's OpenMP library, not us. */
#define BIGGER QUICK, "--size", "64x64"
enum { SMALL = 2048 };

static struct result succeeds(const char *const *args)
{
    struct result r = run_how(&(struct manner){ 0 }, args);
    if (r.status != 0)
        fail_msg("sluice %s: exit status %d: %s", args[0], r.status, r.err);
    return r;
}

#define good(...)                                \
    do {                                         \
        struct result r_ = succeeds(LIST(__VA_ARGS__)); \
        result_free(&r_);                        \
    } while (0)

static struct image *picture(const char *name)
{
    struct err e = { 0 };
    struct image *im = image_read(text_of("%s/%s", work, name), &e);
    if (!im)
        fail_msg("%s", e.text);
    return im;
}

static void check_files(const char *expected)
{
    char *all = listing(), *names = strdup(all), *to = names;
    for (char *line = all, *end; (end = strchr(line, '\n')); line = end + 1) {
        size_t n = strcspn(line, " ");
        memmove(to, line, n);
        to += n;
        *to++ = ' ';
    }
    *to = '\0';
    if (strcmp(names, expected))
        fail_msg("files: \"%s\", expected \"%s\"", names, expected);
    free(all);
    free(names);
}

static bool same_pixels(const char *a, const char *b)
{
    struct image *x = picture(a), *y = picture(b);
    bool same = x->width == y->width && x->height == y->height &&
                !memcmp(x->rgb, y->rgb, 3 * (size_t)x->width * (size_t)x->height);
    image_free(x);
    image_free(y);
    return same;
}

/* --- models with one thing wrong --------------------------------------------------------- */

static const char *const part_files[] = {
    "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
    "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
};
enum { CLIP_FILE, T5_FILE, FLUX_FILE, VAE_FILE, PART_FILES };

static void copy_folder(const char *from, const char *to, bool links)
{
    mkdir(to, 0777);
    DIR *d = opendir(from);
    if (!d)
        fail_msg("there is no %s", from);
    for (const struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] == '.' || !strcmp(f->d_name, "train"))
            continue;
        const char *a = text_of("%s/%s", from, f->d_name), *b = text_of("%s/%s", to, f->d_name);
        if (folder_exists(a))
            copy_folder(a, b, links);
        else if (links)
            assert_int_equal(symlink(a, b), 0);
        else {
            size_t n;
            char *data = slurp(a, &n);
            scratch_write(b, data, n);
            free(data);
        }
    }
    closedir(d);
}

/* A model of links to the whole one; a file of it is replaced, never written through. */
static const char *model_new(void)
{
    remove_tree(bad);
    copy_folder(demo, bad, true);
    return bad;
}

/* The folder of the model's file, "vae" of "vae/config.json". */
static const char *folder_of(const char *file)
{
    return text_of("%.*s", (int)strcspn(file, "/"), file);
}

struct file_parts {
    json_t *header;
    char *data; /* whole file */
    size_t bytes, at; /* at: where the tensors' data begin */
};

static struct file_parts file_parts(const char *path)
{
    struct file_parts p = { 0 };
    uint64_t n;
    p.data = slurp(path, &p.bytes);
    memcpy(&n, p.data, 8);
    p.at = 8 + (size_t)n;
    p.header = json_loadb(p.data + 8, (size_t)n, 0, NULL);
    assert_non_null(p.header);
    json_object_del(p.header, "__metadata__");
    return p;
}

/* Header as it now is, the data as they now are; p is freed. */
static void file_put(const char *path, struct file_parts *p)
{
    char *text = json_dumps(p->header, JSON_COMPACT);
    uint64_t n = strlen(text), padded = (n + 7) / 8 * 8;
    size_t data = p->bytes - p->at;
    char *all = malloc(8 + padded + data);
    assert_non_null(all);
    memcpy(all, &padded, 8);
    memcpy(all + 8, text, n);
    memset(all + 8 + n, ' ', padded - n);
    memcpy(all + 8 + padded, p->data + p->at, data);
    scratch_write(path, all, 8 + padded + data);
    free(all);
    free(text);
    json_decref(p->header);
    free(p->data);
}

static json_int_t at(const json_t *entry, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(entry, key), i));
}

/* A 2-d (or wider) tensor with unlike sides, so that to exchange them is a fault. */
static const char *pick(const struct file_parts *p)
{
    const char *key;
    json_t *entry;
    json_object_foreach(p->header, key, entry)
        if (json_array_size(json_object_get(entry, "shape")) >= 2 && at(entry, "shape", 0) != at(entry, "shape", 1))
            return key;
    fail_msg("no tensor with unlike sides");
    return NULL;
}

enum damage { TRUNCATED, EMPTY, SHORT, HEADER_LONG, HEADER_HUGE, HEADER_TEXT, OVERLAP, RANGE, BACKWARDS, SHAPE, DTYPE,
              UNKNOWN_DTYPE, MISSING, NEGATIVE, NOT_FINITE, GONE, DAMAGES };

static const struct { const char *name, *says; bool tensor; } damages[DAMAGES] = {
    [TRUNCATED] = { "truncated", "", false },
    [EMPTY] = { "empty", "", false },
    [SHORT] = { "seven bytes", "", false },
    [HEADER_LONG] = { "header longer than the file", "header", false },
    [HEADER_HUGE] = { "header of 2^63 bytes", "header", false },
    [HEADER_TEXT] = { "header that is not JSON", "JSON", false },
    [OVERLAP] = { "overlapping offsets", "overlap", false },
    [RANGE] = { "offsets out of range", "", true },
    [BACKWARDS] = { "end before begin", "", true },
    [SHAPE] = { "wrong shape", "", true },
    [DTYPE] = { "wrong dtype", "found I", true },
    [UNKNOWN_DTYPE] = { "unknown dtype", "Q7", true },
    [MISSING] = { "a missing tensor", "", true },
    [NEGATIVE] = { "a negative length", "", true },
    [NOT_FINITE] = { "NaN weights", "", false },
    [GONE] = { "no file", "", false },
};

/* Damages path; the name of the tensor concerned, or "". */
static const char *damage_do(const char *path, enum damage d)
{
    struct file_parts p = file_parts(path);
    const char *name = text_of("%s", pick(&p));
    json_t *entry = json_object_get(p.header, name), *shape = json_object_get(entry, "shape"),
           *offsets = json_object_get(entry, "data_offsets");
    json_int_t begin = at(entry, "data_offsets", 0), end = at(entry, "data_offsets", 1);
    uint64_t n = d == HEADER_HUGE ? (uint64_t)1 << 63 : p.bytes;
    size_t bytes = p.bytes;
    bool header = false;
    switch (d) {
    case TRUNCATED: bytes -= bytes / 3; break;
    case EMPTY: bytes = 0; break;
    case SHORT: bytes = 7; break;
    case HEADER_LONG:
    case HEADER_HUGE: memcpy(p.data, &n, 8); break;
    case HEADER_TEXT: memset(p.data + 8, 'x', p.at - 8); break;
    case OVERLAP: {
        json_int_t by = begin ? -4 : 4;
        json_array_set_new(offsets, 0, json_integer(begin + by));
        json_array_set_new(offsets, 1, json_integer(end + by));
        header = true;
        break;
    }
    case RANGE: {
        json_int_t by = (json_int_t)(p.bytes - p.at) - end + 4;
        json_array_set_new(offsets, 0, json_integer(begin + by));
        json_array_set_new(offsets, 1, json_integer(end + by));
        header = true;
        break;
    }
    case BACKWARDS:
        json_array_set_new(offsets, 0, json_integer(end));
        json_array_set_new(offsets, 1, json_integer(begin));
        header = true;
        break;
    case SHAPE: {
        json_int_t a = at(entry, "shape", 0), b = at(entry, "shape", 1);
        json_array_set_new(shape, 0, json_integer(b));
        json_array_set_new(shape, 1, json_integer(a));
        header = true;
        break;
    }
    case DTYPE: { /* as wide, so that only the type is wrong */
        json_int_t count = 1;
        for (size_t i = 0; i < json_array_size(shape); i++)
            count *= at(entry, "shape", i);
        json_object_set_new(entry, "dtype", json_string(end - begin == 2 * count ? "I16" : "I32"));
        header = true;
        break;
    }
    case UNKNOWN_DTYPE:
        json_object_set_new(entry, "dtype", json_string("Q7"));
        header = true;
        break;
    case MISSING:
        json_object_set(p.header, "some.other.name", entry);
        json_object_del(p.header, name);
        header = true;
        break;
    case NEGATIVE:
        json_array_set_new(shape, 0, json_integer(-1));
        header = true;
        break;
    case NOT_FINITE: memset(p.data + p.at, 0xff, p.bytes - p.at); break;
    case GONE:
    case DAMAGES: break;
    }
    if (header) {
        file_put(path, &p);
    } else {
        unlink(path);
        if (d != GONE)
            scratch_write(path, p.data, bytes);
        json_decref(p.header);
        free(p.data);
    }
    return damages[d].tensor ? name : "";
}

static void test_damaged_weights(void **state)
{
    (void)state;
    for (int f = 0; f < PART_FILES; f++)
        for (enum damage d = 0; d < DAMAGES; d++) {
            const char *model = model_new(), *path = text_of("%s/%s", model, part_files[f]);
            const char *name = damage_do(path, d);
            const char *part = folder_of(part_files[f]);
            /* where the numbers are wrong the stage and the tensor are named, else the file or its part */
            const char *where = d == NOT_FINITE ? "NaN" : part;
            print_message("%s: %s\n", part_files[f], damages[d].name);
            refused(1, NAMES(where, name, damages[d].says), "generate", "-m", model, "--size", "32x32", "--steps", "2",
                    "--precision", d % 2 ? "bf16" : "fp32", "x");
            struct result r = run("inspect", "--check", model);
            assert_int_equal(r.status, 1);
            check_line(&r, damages[d].name);
            check_names("inspect", r.err, NAMES(part));
            result_free(&r);
        }
}

static void test_missing_parts(void **state)
{
    (void)state;
    static const char *const parts[] = { "text_encoder", "text_encoder_2", "transformer", "vae",
                                         "tokenizer", "tokenizer_2" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *model = model_new();
        remove_tree(text_of("%s/%s", model, parts[i]));
        refused(1, NAMES(model, parts[i]), "generate", "-m", model, "x");
    }
    for (int f = 0; f < PART_FILES; f++) {
        static const char *const faults[] = { "", "{", "[]", "{}", "{\"hidden_size\": \"wide\"}" };
        const char *model = model_new();
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
            const char *config = text_of("%s/%s/config.json", model, folder_of(part_files[f]));
            spill_text(config, faults[k]);
            refused(1, NAMES(config), "generate", "-m", model, "x");
        }
    }
    refused(1, NAMES("/nowhere/model"), "generate", "-m", "/nowhere/model", "x");
    refused(1, NAMES("no model \"nosuch\""), "generate", "-m", "nosuch", "x");
    refused(1, NAMES("/etc/passwd"), "generate", "-m", "/etc/passwd", "x");
    refused(1, NAMES("model_index.json"), "generate", "-m", scratch, "x");
    refused(1, NAMES("/nowhere/model"), "inspect", "/nowhere/model");
    refused(1, NAMES("/nowhere/model"), "-m", "/nowhere/model");
}

static void test_damaged_tokenizers(void **state)
{
    (void)state;
    static const char *const names[] = { "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/tokenizer.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *model = model_new(), *path = text_of("%s/%s", model, names[i]);
        size_t n;
        char *data = slurp(path, &n);
        const char *file = strchr(names[i], '/') + 1;
        scratch_write(path, "{", 1);
        refused(1, NAMES(file), "generate", "-m", model, "x");
        if (strcmp(file, "merges.txt")) { /* half a list of merges is a list of merges */
            scratch_write(path, data, n / 2);
            refused(1, NAMES(file), "generate", "-m", model, "x");
        }
        free(data);
    }
}

/* --- prompts ------------------------------------------------------------------------------- */

static void test_prompts(void **state)
{
    (void)state;
    char *huge = malloc(100001);
    assert_non_null(huge);
    for (int i = 0; i < 100000; i++)
        huge[i] = i % 6 == 5 ? ' ' : (char)('a' + i % 23);
    huge[100000] = '\0';
    const char *const prompts[] = { "", huge, "\xff\xfe broken \xc3( utf-8 \xed\xa0\x80",
                                    "\xf0\x9f\x90\x99 \xe2\x80\x8d",
                                    "line\nline\ttab\x1b[31m", "--", "100% %s %n" };
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        work_clear();
        struct result r = succeeds(LIST(QUICK, "-o", "a.png", "--json", "--", prompts[i]));
        check_files("a.png ");
        for (char *line = r.out, *end; (end = strchr(line, '\n')); line = end + 1) {
            json_t *o = json_loadb(line, (size_t)(end - line), 0, NULL);
            assert_non_null(o);
            json_decref(o);
        }
        if (prompts[i] == huge)
            check_names("100 KB", r.err, NAMES("sluice: the prompt is longer than"));
        else
            assert_string_equal(r.err, "");
        struct err e = { 0 };
        char *json = image_read_text(text_of("%s/a.png", work), "sluice", &e);
        assert_non_null(json);
        json_t *o = json_loads(json, 0, NULL);
        assert_non_null(o);
        const char *kept = json_string_value(json_object_get(o, "prompt"));
        assert_non_null(kept);
        if (i < 2 || i == 3)
            assert_string_equal(kept, prompts[i]);
        json_decref(o);
        free(json);
        result_free(&r);
    }
    free(huge);
}

/* --- options -------------------------------------------------------------------------------- */

/* "--memory-fraction" */
static const char *option_of(const struct setting *s)
{
    char *option = (char *)(uintptr_t)text_of("--%s", s->name);
    for (char *c = option; *c; c++)
        if (*c == '_')
            *c = '-';
    return option;
}

static void test_options_refused(void **state)
{
    (void)state;
    work_clear();
    /* exit 1: a value out of range; 2: wrong usage */
    static const struct { int status; const char *option, *value, *says; } cases[] = {
        { 1, "--size", "0x0", "width is 0" },       { 1, "--size", "128x0", "height is 0" },
        { 1, "--size", "9000x64", "8192" },         { 1, "--size", "8192x8192", "pixels" },
        { 2, "--size", "-4x16", "--size \"-4x16\"" }, { 2, "--size", "128", "--size \"128\"" },
        { 2, "--size", "", "--size \"\"" },         { 2, "--size", "128x128x3", "128x128x3" },
        { 2, "--size", "99999999999999999999x1", "--size" },
        { 1, "--steps", "0", "steps is 0" },        { 1, "--steps", "-3", "steps is -3" },
        { 1, "--steps", "1001", "1000" },           { 2, "--steps", "two", "--steps \"two\": not a whole number" },
        { 2, "--steps", "4.5", "--steps \"4.5\"" }, { 2, "--steps", "99999999999999999999", "--steps" },
        { 1, "--guidance", "-1", "guidance is -1" }, { 1, "--guidance", "101", "guidance is 101" },
        { 2, "--guidance", "nan", "--guidance \"nan\"" }, { 2, "--guidance", "", "--guidance" },
        { 2, "--seed", "-1", "--seed \"-1\"" },     { 2, "--seed", "18446744073709551616", "2^64-1" },
        { 2, "--seed", " -1", "--seed" },           { 2, "--seed", "7x", "--seed \"7x\"" },
        { 2, "--rng", "mt19937", "torch-cpu" },     { 2, "--precision", "fp8", "bf16" },
        { 2, "--sampler", "ddim", "--sampler \"ddim\"" }, { 2, "--vae-tile", "x", "--vae-tile \"x\"" },
        { 1, "--memory-fraction", "2", "0.01 to 1" }, { 1, "--budget", "0", "budget of 0 bytes" },
        { 2, "--budget", "much", "--budget \"much\"" },
        { 1, "--budget", "1", "needs at least" }, { 2, "--preview", "maybe", "--preview \"maybe\"" },
        { 2, "--device", "opencl", "--device \"opencl\"" }, { 1, "--threads", "-1", "threads is -1" },
        { 1, "--threads", "5000", "threads is 5000" }, { 2, "--threads", "all", "--threads \"all\"" },
        { 1, "-n", "0", "count is 0" },             { 1, "-n", "-2", "count is -2" },
        { 1, "-n", "1001", "1000" },                { 2, "-n", "x", "--count \"x\"" },
        { 2, "-o", "", "needs a name" },            { 1, "-o", "no/such/a.png", "no folder no/such" },
        { 1, "-o", ".", "folder" },                 { 1, "-o", "/proc/a.png", "/proc/a.png" },
        { 1, "-o", "/proc/version/a.png", "/proc/version" }, { 1, "-o", "/dev/full", "/dev/full" },
        { 1, "-o", "esc\x1b[31m/a.png", "esc?[31m" },
        { 1, "--dump-stages", "no/such", "no folder no" }, { 1, "--dump-stages", "/dev", "folder" },
        { 2, "--dump-stages", "", "needs a name" }, { 1, "--dump-stages", "a.png", "a.png" },
        { 1, "--init-latents", "nosuch.safetensors", "nosuch.safetensors" },
        { 1, "--init-latents", "/dev/zero", "/dev/zero" }, { 2, "--init-latents", "", "needs a name" },
        { 2, "--prompts", "", "needs a name" },     { 1, "--prompts", "nosuch.txt", "nosuch.txt" },
        { 1, "--prompts", "/dev/zero", "/dev/zero" },
        { 2, "--nonsense", "x", "--nonsense" },     { 2, "-Zq", "x", "-Z" },
        { 2, "--json=yes", "x", "--json=yes" },     { 1, "-m", "", "no model \"\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s %s\n", cases[i].option, cases[i].value);
        refused(cases[i].status, NAMES(cases[i].says), "generate", "-m", demo, "--size", "32x32", "--steps", "1",
                "-o", "a.png", cases[i].option, cases[i].value, "x");
    }
    static const char *const valued[] = { "-m", "--model", "--device", "-n", "-o", "--output", "--prompts",
                                          "--init-latents", "--dump-stages" };
    for (size_t i = 0; i < sizeof valued / sizeof *valued; i++)
        refused(2, NAMES(valued[i], "needs a value"), "generate", valued[i]);
    for (int i = 0; i < setting_count(); i++) {
        const char *option = option_of(setting_at(i));
        refused(2, NAMES(option, "needs a value"), "generate", option);
        refused(2, NAMES(option, "needs a value"), "plan", option);
        refused(2, NAMES(option, "needs a value"), option);
    }
    char *name = malloc(400);
    assert_non_null(name);
    memset(name, 'n', 399);
    name[399] = '\0';
    refused(1, NAMES("File name too long"), QUICK, "-o", name, "x");
    free(name);
    refused(2, NAMES("prompt is missing"), "generate");
    refused(2, NAMES("prompt is missing"), "generate", "-m", demo);
    spill_text(text_of("%s/none.txt", work), "\n# nothing\n  \n");
    refused(1, NAMES("none.txt", "no prompts"), "generate", "-m", demo, "--prompts", "none.txt");
    scratch_write(text_of("%s/binary", work), "a\0b", 3);
    refused(1, NAMES("binary", "0 byte"), "generate", "-m", demo, "--prompts", "binary", "x");
    refused(2, NAMES("no command \"nonsense\"", "--help"), "nonsense");
    refused(2, NAMES("no command"), "gen\x1b[31merate");
    refused(2, NAMES("--nonsense"), "--nonsense");
    refused(2, NAMES("nonsense"), "help", "nonsense");
    refused(2, NAMES("--nonsense"), "inspect", "--nonsense");
    refused(2, NAMES("-z"), "inspect", "-zj");
    refused(2, NAMES("one model"), "inspect", demo, demo);
    refused(2, NAMES("one folder"), "synth");
    refused(2, NAMES("one folder"), "synth", "a", "b");
    refused(2, NAMES("--nonsense"), "synth", "--nonsense", "a");
    refused(2, NAMES("--double needs a value"), "synth", "--double");
    refused(2, NAMES("--double -1"), "synth", "--double", "-1", "a");
    refused(2, NAMES("--dtype q4"), "synth", "--dtype", "q4", "a");
    refused(2, NAMES("--arch sdxl"), "synth", "--arch", "sdxl", "a");
    refused(1, NAMES("no/such"), "synth", "--double", "0", "--single", "0", "--headers-only", "no/such/folder");
    refused(2, NAMES("--graphics \"vt\""), "--graphics=vt");
    refused(2, NAMES("--threads \"all\""), "--threads", "all");
    refused(2, NAMES("use list, show, diff, check, verify, import, export, duplicate, rename, delete or restore"),
            "preset");
    refused(2, NAMES("nonsense: use list"), "preset", "nonsense");
    refused(2, NAMES("takes no arguments"), "preset", "list", "x");
    refused(2, NAMES("show takes one"), "preset", "show");
    refused(2, NAMES("diff takes one"), "preset", "diff");
    refused(2, NAMES("check takes one"), "preset", "check");
    refused(2, NAMES("use list, show or explain"), "profile");
    refused(2, NAMES("explain takes one"), "profile", "explain");
    refused(1, NAMES("no preset \"nosuch\"", "sluice preset list"), "preset", "show", "nosuch");
    refused(1, NAMES("no profile \"nosuch\""), "profile", "show", "nosuch");
    refused(1, NAMES("no profile \"nosuch\""), "plan", "-m", demo, "--profile", "nosuch");
    refused(1, NAMES("no preset \"nosuch\""), "--preset", "nosuch");
    refused(1, NAMES("none.txt:4:1: the file is empty"), "plan", "-m", demo, "--preset", "./none.txt");
    refused(1, NAMES("preset Portrait photograph is made for FLUX.1-dev", "-m"), "generate", "--preset", "portrait");
    refused(2, NAMES("prompt is missing"), "generate", "-m", demo, "--preset", "draft");
    refused(2, NAMES("-m needs a value"), "-m");
    refused(2, NAMES("takes no arguments"), "doctor", "all");
    refused(2, NAMES("no option --fix"), "doctor", "--fix");
    refused(2, NAMES("takes no arguments"), "bench", "demo");
    refused(2, NAMES("not both"), "bench", "--json", "--markdown");
    refused(2, NAMES("--limit \"0\"", "1 to 86400"), "bench", "--limit", "0");
    refused(1, NAMES("no model \"nosuch\""), "bench", "-m", "nosuch");
    refused(1, NAMES("no/such/folder"), "bench", "-m", "no/such/folder", "--quick");
}

static void test_init_latents_refused(void **state)
{
    (void)state;
    work_clear();
    static float v[16 * 4 * 4 + 64];
    const char *path = text_of("%s/in.safetensors", scratch);
    struct safetensors_entry one = { "latent", tensor_3d(v, DT_F32, 16, 4, 4) };
    struct err e = { 0 };
    static const struct { const char *name; enum dtype dtype; int64_t c, h, w; const char *says; } cases[] = {
        { "latent", DT_F32, 16, 4, 5, "[16, 4, 5]" }, { "latent", DT_F32, 4, 16, 4, "[4, 16, 4]" },
        { "latent", DT_BF16, 16, 4, 4, "BF16" },      { "latents", DT_F32, 16, 4, 4, "no tensor named \"latent\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        one = (struct safetensors_entry){ cases[i].name,
                                          tensor_3d(v, cases[i].dtype, cases[i].c, cases[i].h, cases[i].w) };
        assert_true(safetensors_write(path, &one, 1, &e));
        refused(1, NAMES(path, cases[i].says), QUICK, "--init-latents", path, "x");
    }
    one = (struct safetensors_entry){ "latent", tensor_3d(v, DT_F32, 16, 4, 4) };
    v[100] = NAN;
    assert_true(safetensors_write(path, &one, 1, &e));
    refused(1, NAMES(path, "not finite"), QUICK, "--init-latents", path, "x");
    assert_int_equal(truncate(path, 200), 0);
    refused(1, NAMES(path), QUICK, "--init-latents", path, "x");
}

/* --- help ------------------------------------------------------------------------------------ */

/* Options of a help text, " --this --that -x ". */
static void options_of(const char *text, char *out, size_t room)
{
    size_t n = 0;
    out[n++] = ' ';
    for (const char *s = text; *s; s++) {
        bool begins = s == text || strchr(" \n,[(", s[-1]);
        if (!begins || *s != '-' || !(isalpha((unsigned char)s[1]) || (s[1] == '-' && isalpha((unsigned char)s[2]))))
            continue;
        size_t length = s[1] == '-' ? 2 + strspn(s + 2, "abcdefghijklmnopqrstuvwxyz0123456789-") : 2;
        assert_true(n + length + 2 < room);
        memcpy(out + n, s, length);
        n += length;
        out[n++] = ' ';
    }
    out[n] = '\0';
}

/* The manual as text: without roff's marks. */
static char *manual(void)
{
    size_t n;
    char *text = slurp(text_of("%s/man/sluice.1", source), &n), *to = text;
    for (const char *s = text; *s; s++)
        if (*s == '\\' && s[1] == 'f')
            s += 2;
        else if (*s == '\\' && s[1] == '-')
            *to++ = *++s;
        else if (*s != '"')
            *to++ = *s;
    *to = '\0';
    return text;
}

static void test_help(void **state)
{
    (void)state;
    work_clear();
    static const struct { const char *command, *section; } commands[] = {
        { "studio", "\n.SS Options\n" }, { "generate", "\n.SH SLUICE GENERATE\n" },
        { "plan", "\n.SH SLUICE PLAN\n" },           { "bench", "\n.SH SLUICE BENCH\n" },
        { "doctor", "\n.SH SLUICE DOCTOR\n" },
        { "preset", "\n.SH SLUICE PRESET\n" },
        { "profile", "\n.SH SLUICE PROFILE\n" },
        { "keys", "\n.SH SLUICE KEYS\n" },
        { "inspect", "\n.SH SLUICE INSPECT\n" },
        { "synth", "\n.SH SLUICE SYNTH\n" },
        { "queue", "\n.SH SLUICE QUEUE\n" },
        { "history", "\n.SH SLUICE HISTORY\n" },
    };
    char *man = manual();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const char *c = commands[i].command;
        struct result r[] = { succeeds(LIST(c, "--help")), succeeds(LIST(c, "-h")), succeeds(LIST("help", c)) };
        for (int k = 0; k < 3; k++) {
            assert_string_equal(r[k].out, r[0].out);
            assert_string_equal(r[k].err, "");
        }
        assert_memory_equal(r[0].out, "usage: sluice", 13);
        for (const char *line = r[0].out, *end; (end = strchr(line, '\n')); line = end + 1)
            if (end - line > 92)
                fail_msg("help %s: a line of %d columns", c, (int)(end - line));
        char *begin = strstr(man, commands[i].section);
        assert_non_null(begin);
        begin += strlen(commands[i].section);
        char *end = strstr(begin, i ? "\n.SH " : "\n.SS ");
        assert_non_null(end);
        /* what makes a job takes every setting, and these have a section of their own */
        const char *settings = strstr(man, "\n.SH SETTINGS\n"), *others = strstr(settings + 1, "\n.SH ");
        if (i > 3)
            others = settings;
        char *section = NULL;
        assert_true(asprintf(&section, "%.*s%.*s", (int)(end - begin), begin, (int)(others - settings), settings) > 0);
        char in_help[4096], in_manual[4096];
        options_of(r[0].out, in_help, sizeof in_help);
        options_of(section, in_manual, sizeof in_manual);
        char *of_help = strdup(in_help), *of_manual = strdup(in_manual);
        for (char *o = strtok(of_help, " "); o; o = strtok(NULL, " "))
            if (strcmp(o, "--help") && strcmp(o, "-h") && !strstr(in_manual, text_of(" %s ", o)))
                fail_msg("the manual's section on %s has no %s: %s", c, o, in_manual);
        for (char *o = strtok(of_manual, " "); o; o = strtok(NULL, " "))
            if (!strstr(in_help, text_of(" %s ", o)))
                fail_msg("sluice %s --help has no %s, which the manual tells of", c, o);
        free(of_help);
        free(of_manual);
        free(section);
        for (int k = 0; k < 3; k++)
            result_free(&r[k]);
    }
    for (int k = 0; k < setting_count(); k++) {
        const char *option = option_of(setting_at(k));
        if (!strstr(man, text_of("\n.BR %s  ", option)) && !strstr(man, text_of("\n.BR -n ,  %s  ", option)))
            fail_msg("the manual has no paragraph on %s", option);
    }
    struct result all = succeeds(LIST("--help")), again = succeeds(LIST("help"));
    assert_string_equal(all.out, again.out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        check_names("--help", all.out, NAMES(commands[i].command));
    char options[2048];
    options_of(all.out, options, sizeof options);
    for (char *o = strtok(options, " "); o; o = strtok(NULL, " "))
        if (!strstr(man, o))
            fail_msg("the manual has no %s", o);
    result_free(&all);
    result_free(&again);
    struct result version = succeeds(LIST("--version"));
    assert_string_equal(version.out, "sluice " SLUICE_VERSION "\n");
    check_names("the manual", man, NAMES("sluice " SLUICE_VERSION));
    result_free(&version);
    /* help wherever it stands, but not behind -- */
    good("generate", "-m", "/nowhere", "x", "--help");
    refused(1, NAMES("/nowhere"), "generate", "-m", "/nowhere", "--", "--help");
    free(man);
    check_files("");
}

/* --- what is made ----------------------------------------------------------------------------- */

static void test_notices(void **state)
{
    (void)state;
    work_clear();
    struct result r = succeeds(LIST("generate", "-m", demo, "--size", "30x50", "--steps", "1", "-o", "a.png", "x"));
    assert_string_equal(r.err, "sluice: size 30x50 rounded to 32x48: FLUX.1 works in steps of 16 pixels\n");
    check_names("generate", r.out, NAMES("a.png", "32x48"));
    struct image *im = picture("a.png");
    assert_int_equal(im->width, 32);
    assert_int_equal(im->height, 48);
    image_free(im);
    result_free(&r);
    /* the smallest size there is */
    r = succeeds(LIST("generate", "-m", demo, "--size", "1x1", "--steps", "1", "-o", "a.png", "x"));
    im = picture("a.png");
    assert_int_equal(im->width, 16);
    image_free(im);
    result_free(&r);
}

static void test_names(void **state)
{
    (void)state;
    work_clear();
    good(QUICK, "-o", "plain", "x");
    check_files("plain ");
    good(QUICK, "-o", "b.png", "-n", "3", "x");
    check_files("b-1.png b-2.png b.png plain ");
    good(QUICK, "-o", "plain", "-n", "2", "x");
    check_files("b-1.png b-2.png b.png plain plain-1.png ");
    /* picture i of a batch is the picture of seed + i */
    good("generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", "3", "-o", "third.png", "x");
    assert_true(same_pixels("third.png", "b-2.png"));
    assert_true(same_pixels("plain", "b.png"));
    assert_false(same_pixels("b.png", "b-1.png"));
    /* without -o: a name from the clock, here */
    work_clear();
    struct result r = succeeds(LIST(QUICK, "x"));
    char *files = listing(), *end = strchr(files, ' ');
    assert_memory_equal(files, "sluice-20", 9);
    *end = '\0';
    assert_memory_equal(r.out, files, strlen(files));
    free(files);
    result_free(&r);
}

static void test_overwrites(void **state)
{
    (void)state;
    work_clear();
    const char *old = text_of("%s/a.png", work), *other = text_of("%s/link.png", work);
    spill_text(old, "what was here");
    struct stat before, after;
    stat(old, &before);
    int held = open(old, O_RDONLY);
    good(QUICK, "-o", "a.png", "x");
    stat(old, &after);
    /* another file under the name; who had the old one open still has it whole */
    assert_true(before.st_ino != after.st_ino);
    char text[32] = "";
    assert_int_equal(read(held, text, sizeof text), 13);
    close(held);
    /* refused, and the picture of before is as it was */
    refused_how(&(struct manner){ .file_limit = SMALL }, 1, NAMES("a.png", "File too large"),
                LIST(BIGGER, "-o", "a.png", "y"));
    image_free(picture("a.png"));
    /* a link stays a link */
    assert_int_equal(symlink("a.png", other), 0);
    good(QUICK, "-o", "link.png", "x");
    lstat(other, &after);
    assert_true(S_ISLNK(after.st_mode));
    check_files("a.png link.png ");
}

static void test_full_disk(void **state)
{
    (void)state;
    work_clear();
    refused_how(&(struct manner){ .file_limit = SMALL }, 1, NAMES("a.png", "File too large"),
                LIST(BIGGER, "-o", "a.png", "x"));
    refused(1, NAMES("/dev/full", "No space left"), QUICK, "-o", "/dev/full", "x");
    check_files("");
    refused_how(&(struct manner){ .file_limit = 20000 }, 1, NAMES("synth"),
                LIST("synth", "--double", "1", "--single", "1", "--t5-layers", "1", "--clip-layers", "1",
                     "--tokenizers", demo, "synth"));
    /* standard output full, then closed: the picture is made, the failure is told */
    struct result r = run_how(&(struct manner){ .out_to = "/dev/full" }, LIST(QUICK, "-o", "a.png", "x"));
    assert_int_equal(r.status, 1);
    check_line(&r, "stdout full");
    check_names("stdout full", r.err, NAMES("standard output"));
    result_free(&r);
    image_free(picture("a.png"));
    r = run_how(&(struct manner){ .out_to = "/dev/full" }, LIST("plan", "-m", demo));
    assert_int_equal(r.status, 1);
    assert_string_equal(r.err, "sluice: standard output: No space left on device\n");
    result_free(&r);
    r = run_how(&(struct manner){ .out_to = "/dev/full" }, LIST("inspect", demo));
    assert_int_equal(r.status, 1);
    check_line(&r, "stdout full");
    result_free(&r);
    r = run_how(&(struct manner){ .out_to = "/dev/full" }, LIST("--help"));
    assert_int_equal(r.status, 1);
    check_line(&r, "stdout full");
    result_free(&r);
    static const struct manner closed[] = { { .out_to = "" }, { .all_closed = true } };
    for (int i = 0; i < 2; i++) {
        r = run_how(&closed[i], LIST(QUICK, "--json", "-o", "b.png", "x"));
        assert_int_equal(r.status, 0);
        assert_string_equal(r.err, "");
        assert_true(same_pixels("a.png", "b.png"));
        result_free(&r);
    }
    check_files("a.png b.png ");
    /* the stages cannot be written: the picture is there and whole */
    r = run(QUICK, "-o", "c.png", "--dump-stages", "/dev/full", "x");
    assert_int_equal(r.status, 1);
    check_line(&r, "stages");
    check_names("stages", r.err, NAMES("/dev/full", "No space left"));
    check_files("a.png b.png c.png ");
    assert_true(same_pixels("a.png", "c.png"));
    result_free(&r);
}

static void test_seeds(void **state)
{
    (void)state;
    work_clear();
    struct result r = succeeds(LIST("generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", "random", "-o",
                                    "a.png", "a red apple"));
    const char *seed = strstr(r.out, "seed ");
    assert_non_null(seed);
    const char *number = text_of("%.*s", (int)strspn(seed + 5, "0123456789"), seed + 5);
    good("generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", number, "-o", "b.png", "a red apple");
    assert_true(same_pixels("a.png", "b.png"));
    good("generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", number, "--threads", "1", "-o", "c.png",
         "a red apple");
    assert_true(same_pixels("a.png", "c.png"));
    good("generate", "-m", demo, "--size", "32x32", "--steps", "2", "--seed", text_of("%s1", number), "-o", "d.png",
         "a red apple");
    assert_false(same_pixels("a.png", "d.png"));
    good(QUICK, "--seed", "18446744073709551615", "-n", "2", "-o", "e.png", "x"); /* the second's is 0 */
    good(QUICK, "--seed", "0", "-o", "f.png", "x");
    assert_true(same_pixels("e-1.png", "f.png"));
    result_free(&r);
}

static void check_tensor(const struct safetensors *s, const char *name, enum dtype dtype, int ndim,
                         const int64_t *shape)
{
    struct tensor t;
    if (!safetensors_find(s, name, &t))
        fail_msg("no %s among the stages", name);
    bool same = t.dtype == dtype && t.ndim == ndim;
    for (int i = 0; same && i < ndim; i++)
        same = t.shape[i] == shape[i];
    char found[128];
    if (!same)
        fail_msg("%s is %s", name, tensor_describe(t, found, sizeof found));
    for (int64_t i = 0; dtype == DT_F32 && i < tensor_count(t); i++)
        assert_true(isfinite(((const float *)t.data)[i]));
}

#define SHAPE_OF(...) (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ }

static void test_stages(void **state)
{
    (void)state;
    work_clear();
    struct err e = { 0 };
    struct model *m = malloc(sizeof *m);
    if (!m || !model_open(m, demo, true, &e))
        fail_msg("%s", e.text);
    good("generate", "-m", demo, "--size", "48x32", "--steps", "2", "--seed", "5", "-o", "a.png", "--dump-stages",
         "a.safetensors", "a small octopus");
    check_files("a.png a.safetensors ");
    struct safetensors *s;
    if (!safetensors_open(&s, text_of("%s/a.safetensors", work), &e))
        fail_msg("%s", e.text);
    assert_int_equal(safetensors_count(s), 5 + 3 + 2 + 1);
    check_tensor(s, "clip_ids", DT_I32, SHAPE_OF(m->clip.tokens));
    check_tensor(s, "t5_ids", DT_I32, SHAPE_OF(m->t5.tokens));
    check_tensor(s, "clip_pooled", DT_F32, SHAPE_OF(m->clip.width));
    check_tensor(s, "t5_hidden", DT_F32, SHAPE_OF(m->t5.tokens, m->t5.width));
    check_tensor(s, "sigmas", DT_F32, SHAPE_OF(3));
    check_tensor(s, "latent_00", DT_F32, SHAPE_OF(16, 4, 6));
    check_tensor(s, "latent_01", DT_F32, SHAPE_OF(16, 4, 6));
    check_tensor(s, "latent_02", DT_F32, SHAPE_OF(16, 4, 6));
    check_tensor(s, "velocity_01", DT_F32, SHAPE_OF(16, 4, 6));
    check_tensor(s, "velocity_02", DT_F32, SHAPE_OF(16, 4, 6));
    check_tensor(s, "image", DT_F32, SHAPE_OF(3, 32, 48));
    /* the picture is that image, rounded to bytes */
    struct tensor t, noise;
    safetensors_find(s, "image", &t);
    struct image *im = picture("a.png");
    for (size_t i = 0; i < 32 * 48; i++)
        for (size_t c = 0; c < 3; c++) {
            float v = ((const float *)t.data)[c * 32 * 48 + i] / 2 + 0.5f;
            assert_int_equal(im->rgb[3 * i + c], lrintf((v < 0 ? 0 : v > 1 ? 1 : v) * 255));
        }
    image_free(im);
    /* its noise given back gives it back, whatever the seed */
    safetensors_find(s, "latent_00", &noise);
    struct safetensors_entry one = { "latent", noise };
    assert_true(safetensors_write(text_of("%s/noise.safetensors", work), &one, 1, &e));
    safetensors_close(s);
    good("generate", "-m", demo, "--size", "48x32", "--steps", "2", "--seed", "77", "-o", "b.png", "--init-latents",
         "noise.safetensors", "a small octopus");
    assert_true(same_pixels("a.png", "b.png"));
    free(m);
}

static void test_json(void **state)
{
    (void)state;
    work_clear();
    struct result r = succeeds(LIST(QUICK, "--json", "-n", "2", "-o", "a.png", "a red apple"));
    assert_string_equal(r.err, "");
    static const char *const kinds[] = { "queued", "started", "stage", "progress", "preview", "memory",
                                         "done", "idle" };
    int seen[8] = { 0 };
    for (char *line = r.out, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end); /* the last line is whole, too */
        json_error_t why;
        json_t *o = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, &why);
        if (!o)
            fail_msg("%s: %.*s", why.text, (int)(end - line), line);
        const char *kind = json_string_value(json_object_get(o, "event"));
        assert_non_null(kind);
        for (int i = 0; i < 8; i++)
            seen[i] += !strcmp(kind, kinds[i]);
        if (!strcmp(kind, "done")) {
            assert_string_equal(json_string_value(json_object_get(o, "path")), seen[6] == 1 ? "a.png" : "a-1.png");
            assert_string_equal(json_string_value(json_object_get(o, "seed")), seen[6] == 1 ? "1" : "2");
        }
        if (!strcmp(kind, "memory"))
            assert_true(json_is_integer(json_object_get(json_object_get(o, "memory"), "rss_bytes")));
        json_decref(o);
    }
    for (int i = 0; i < 8; i++)
        if (!seen[i])
            fail_msg("no event %s", kinds[i]);
    assert_int_equal(seen[6], 2);
    result_free(&r);
    /* a failure is an event as well as a line */
    r = run(QUICK, "--json", "-o", "/dev/full", "x");
    assert_int_equal(r.status, 1);
    check_line(&r, "--json");
    check_names("--json", r.out, NAMES("\"event\":\"failed\"", "/dev/full"));
    result_free(&r);
    r = run("inspect", "--json", demo);
    assert_int_equal(r.status, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    assert_non_null(o);
    json_decref(o);
    result_free(&r);
}

/* --- installed ------------------------------------------------------------------------------ */

/* The program finds what was installed with it, wherever that is. */
static void test_installed(void **state)
{
    (void)state;
    work_clear();
    char saved[sizeof binary];
    memcpy(saved, binary, sizeof saved);
    size_t n;
    char *program = slurp(binary, &n);
    mkdir(text_of("%s/bin", scratch), 0777);
    mkdir(text_of("%s/share", scratch), 0777);
    mkdir(text_of("%s/share/sluice", scratch), 0777);
    assert_int_equal(symlink(demo, text_of("%s/share/sluice/demo", scratch)), 0);
    sprintf(binary, "%s/bin/sluice", scratch);
    scratch_write(binary, program, n);
    chmod(binary, 0755);
    free(program);
    struct result r = succeeds(LIST("inspect", "--json"));
    check_names("inspect", r.out, NAMES(text_of("%s/share/sluice/demo", scratch)));
    result_free(&r);
    good("generate", "--size", "32x32", "--steps", "1", "-o", "a.png", "x");
    /* nothing beside it */
    unlink(text_of("%s/share/sluice/demo", scratch));
    refused(1, NAMES("no model \"demo\"", "share/sluice/demo"), "generate", "x");
    memcpy(binary, saved, sizeof saved);
}

/* --- presets and profiles --------------------------------------------------------------------- */

/* The plan's width, steps and budget for these options. */
static void check_plan(int width, int steps, double budget, const char *const *args)
{
    struct result r = succeeds(args);
    json_t *plan = json_loads(r.out, 0, NULL);
    assert_non_null(plan);
    assert_int_equal(json_integer_value(json_object_get(plan, "width")), width);
    assert_int_equal(json_integer_value(json_object_get(plan, "steps")), steps);
    assert_true((double)json_integer_value(json_object_get(plan, "budget_bytes")) == budget);
    json_decref(plan);
    result_free(&r);
}

/* Model's defaults, preset, its profile, --profile, options: in whatever order they stand. */
static void test_order(void **state)
{
    (void)state;
    work_clear();
    spill_text(text_of("%s/a.yaml", work), "sluice: 1\nname: a\nprofile: p.yaml\nsteps: 5\nsize: 64x64\n");
    spill_text(text_of("%s/p.yaml", work), "sluice: 1\nbudget: 1G\nlarge:\n  from: 96x96\n  budget: 2G\n");
    spill_text(text_of("%s/q.yaml", work), "sluice: 1\nbudget: 3G\n");
#define PLAN "plan", "-m", demo, "--json"
    check_plan(128, 20, 0, LIST(PLAN));
    check_plan(64, 5, 1e9, LIST(PLAN, "--preset", "a.yaml"));
    check_plan(128, 5, 2e9, LIST(PLAN, "--size", "128x128", "--preset", "./a.yaml"));
    check_plan(64, 5, 3e9, LIST(PLAN, "--profile", "q.yaml", "--preset", "a.yaml"));
    check_plan(64, 7, 4e9, LIST(PLAN, "--budget", "4G", "--steps", "7", "--profile", "q.yaml", "--preset", "a.yaml"));
    check_plan(512, 12, 0, LIST(PLAN, "--profile", "article-8gb", "--precision", "bf16"));
    /* what asks for so much is named */
    refused(1, NAMES("needs at least", "text_encoders: auto"), PLAN, "--budget", "3M", "--text-encoders", "resident");
    refused(1, NAMES("needs at least", "transformer: auto"), PLAN, "--budget", "3M", "--transformer", "resident");
    refused(1, NAMES("needs at least", "vae: auto"), PLAN, "--budget", "3M", "--vae", "whole");
}

static void test_presets(void **state)
{
    (void)state;
    work_clear();
    /* the shipped preset makes the shipped model's own picture, and takes words */
    good("generate", "-m", demo, "--preset", "emoji", "--steps", "2", "--seed", "1", "-o", "a.png");
    good("generate", "-m", demo, "--steps", "2", "--seed", "1", "-o", "b.png", "a red apple on a blue background");
    good("generate", "-m", demo, "--preset", "emoji", "--steps", "2", "--seed", "1", "-o", "c.png", "a tiger face");
    good("generate", "-m", demo, "--preset", "emoji", "--steps", "2", "--seed", "1", "-o", "d.png", "--prompt",
         "a tiger face");
    good("generate", "-m", demo, "--steps", "2", "--seed", "1", "-o", "e.png", "a tiger face on a blue background");
    assert_true(same_pixels("a.png", "b.png"));
    assert_true(same_pixels("c.png", "d.png"));
    assert_true(same_pixels("c.png", "e.png"));
    assert_false(same_pixels("a.png", "c.png"));
    /* several: --prompt, the arguments, the file */
    spill_text(text_of("%s/more.txt", work), "\xef\xbb\xbf# emoji\n\na panda face\r\n");
    good("generate", "-m", demo, "--preset", "emoji", "--steps", "2", "--seed", "1", "-o", "f.png", "--prompts",
         "more.txt", "a tiger face", "--prompt", "a red apple");
    good("generate", "-m", demo, "--steps", "2", "--seed", "1", "-o", "g.png", "a panda face on a blue background");
    assert_true(same_pixels("a.png", "f.png"));
    assert_true(same_pixels("c.png", "f-1.png"));
    assert_true(same_pixels("g.png", "f-2.png"));
    struct result r = succeeds(LIST("preset", "list"));
    check_names("preset list", r.out, NAMES("  emoji ", "  portrait ", "FLUX.1-schnell"));
    result_free(&r);
    r = succeeds(LIST("preset", "show", "emoji"));
    check_names("preset show", r.out, NAMES("Small emoji", "preset, line 6", "a red apple on a blue", "128x128"));
    result_free(&r);
    r = succeeds(LIST("preset", "diff", "draft", "schnell"));
    check_names("preset diff", r.out, NAMES("--- Quick draft\n+++ Schnell\n", "-steps: 8\n+steps: 4\n"));
    result_free(&r);
    r = succeeds(LIST("profile", "list"));
    check_names("profile list", r.out, NAMES("  8gb ", "  12gb ", "  article-8gb ", "a template"));
    result_free(&r);
    r = succeeds(LIST("profile", "show", "16gb"));
    check_names("profile show", r.out, NAMES("resident     line 7", "0.92         default", "1536x1536 on"));
    result_free(&r);
    r = succeeds(LIST("profile", "explain", "article-8gb"));
    check_names("profile explain", r.out, NAMES("cfg_scale                1.8            guidance: 1.8\n", "distilled",
                                                "attention: efficient\n", "nothing\n"));
    result_free(&r);
    /* the model's files are those that a preset names, or not */
    struct sha256 sum;
    struct err e = { 0 };
    char hex[HASH_HEX];
    assert_true(hash_file(&sum, text_of("%s/vae/config.json", demo), NULL, NULL, &e));
    static const char verified[] = "sluice: 1\nname: v\nmodel:\n  name: demo\n  sha256:\n    vae/config.json: %s\n";
    spill_text(text_of("%s/v.yaml", work), text_of(verified, hash_hex(&sum, hex)));
    r = succeeds(LIST("preset", "verify", "v.yaml", demo));
    check_names("preset verify", r.out, NAMES("1 of 1 files"));
    result_free(&r);
    hex[0] = hex[0] == 'a' ? 'b' : 'a';
    spill_text(text_of("%s/v.yaml", work), text_of(verified, hex));
    refused(1, NAMES("vae/config.json", "another file", hex), "preset", "verify", "v.yaml", demo);
    /* what is wrong with a file, all of it */
    spill_text(text_of("%s/x.yaml", work), "sluice: 1\nname: x\nstep: 4\nsize: big\n");
    r = run("preset", "check", text_of("%s/presets/draft.yaml", source), "x.yaml", "nosuch.yaml");
    assert_int_equal(r.status, 1);
    assert_string_equal(r.err, "");
    check_names("preset check", r.out, NAMES("draft.yaml: good\n", "x.yaml:3:1: there is no \"step\": is steps meant",
                                             "x.yaml:4:7: size \"big\": not WIDTHxHEIGHT", "nosuch.yaml: cannot open"));
    result_free(&r);
    spill_text(text_of("%s/t.json", work), "{\"batch_size\": 1, \"lora\": \"x\"}");
    r = run("profile", "explain", "t.json");
    assert_int_equal(r.status, 1);
    check_names("profile explain", r.out, NAMES("count: 1", "Refused:", "t.json:1:19: lora: a profile does"));
    result_free(&r);
}

/* --- stopped ------------------------------------------------------------------------------- */

/* Long enough to be stopped in the middle on any machine. */
#define LONG "generate", "-m", demo, "--steps", "1000", "--seed", "1", "--json", "-o", "a.png", "x"

static void test_signals(void **state)
{
    (void)state;
    static const struct { int signal, status; } cases[] = { { SIGINT, 130 }, { SIGTERM, 1 }, { SIGHUP, 1 } };
    for (int i = 0; i < 3; i++) {
        work_clear();
        struct manner m = { .when = "\"preview\"", .signal = cases[i].signal, .times = 1 };
        struct result r = run_how(&m, LIST(LONG));
        assert_int_equal(r.status, cases[i].status);
        check_line(&r, "stopped");
        check_names("stopped", r.err, NAMES("cancelled", "a-partial.png"));
        check_names("stopped", r.out, NAMES("\"event\":\"cancelled\"", "\"path\":\"a-partial.png\""));
        check_files("a-partial.png ");
        struct image *im = picture("a-partial.png");
        assert_int_equal(im->width, 128);
        image_free(im);
        result_free(&r);
    }
    /* before the first step is done there is nothing to keep */
    work_clear();
    struct result r = run_how(&(struct manner){ .when = "\"stage\"", .signal = SIGTERM, .times = 1 }, LIST(LONG));
    assert_int_equal(r.status, 1);
    check_line(&r, "stopped early");
    result_free(&r);
    /* twice: at once, with or without the partial picture */
    work_clear();
    r = run_how(&(struct manner){ .when = "\"preview\"", .signal = SIGINT, .times = 2 }, LIST(LONG));
    assert_int_equal(r.status, 130);
    check_line(&r, "stopped twice");
    char *files = listing();
    if (*files && strncmp(files, "a-partial.png ", 14))
        fail_msg("left: %s", files);
    free(files);
    result_free(&r);
}

/* Killed while the third is sampled: the two latents before it are there and become the very
 * files that would have been. */
static void same_files(const char *a, const char *b)
{
    struct err e = { 0 };
    char path[FILE_PATH_MAX];
    size_t n[2];
    char *one = file_read(path_in(work, a, path), 1 << 20, &n[0], &e);
    char *other = file_read(path_in(work, b, path), 1 << 20, &n[1], &e);
    assert_non_null(one);
    assert_non_null(other);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(one, other, n[0]);
    free(one);
    free(other);
}

/* Not only the pixels: what a picture says of itself is the same, too. */
static void test_same_bytes(void **state)
{
    (void)state;
    static const char *const ways[][3] = {
        { "--vae", "bands", "--vae-band=8" }, { "--vae", "whole", "--budget=min" },
        { "--profile", "minimum", "--steps=2" },
        { "--vae-precision", "bf16", "--vae-tile=32" }, { "--profile", "8gb", "--steps=2" },
    };
    work_clear();
    good(QUICK, "--seed", "5", "--steps", "2", "-o", "a.png", "x");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        good(QUICK, "--seed", "5", "--steps", "2", ways[i][0], ways[i][1], ways[i][2], "-o", "b.png", "x");
        same_files("a.png", "b.png");
    }
}

static void test_killed_batch(void **state)
{
    (void)state;
    work_clear();
#define TILES "--precision", "fp32", "--vae", "tiles", "--vae-tile", "16", "--vae-overlap", "3"
    good("generate", "-m", demo, "--steps", "40", "--seed", "1", "-n", "2", TILES, "-o", "whole.png", "x");
    struct manner m = { .when = "\"index\":2", .signal = SIGKILL, .times = 1 };
    struct result r = run_how(&m, LIST("generate", "-m", demo, "--steps", "40", "--seed", "1", "-n", "3", TILES,
                                       "--decode", "deferred", "--json", "-o", "a.png", "x"));
    assert_int_equal(r.status, 128 + SIGKILL);
    result_free(&r);
    /* as the batch would have, whatever a profile says */
    spill_text(text_of("%s/p.yaml", work),
               "sluice: 1\nbudget: min\nprecision: bf16\nvae: bands\nvae_precision: bf16\n");
    good("decode", "-m", demo, "--profile", "p.yaml", "a.latent.safetensors", "a-1.latent.safetensors");
    same_files("a.png", "whole.png");
    same_files("a-1.png", "whole-1.png");
    /* another model is told, a setting of the sampling is no option here */
    struct result other = succeeds(LIST("decode", "-m", model_new(), "-o", "b.png", "a.latent.safetensors"));
    check_names("another model", other.err, NAMES("a.latent.safetensors", "demo", "this is bad", "-m"));
    result_free(&other);
    refused(2, NAMES("no option --steps"), "decode", "-m", demo, "--steps", "3", "a.latent.safetensors");
    refused(2, NAMES("no latent"), "decode", "-m", demo);
    refused(2, NAMES("for one latent"), "decode", "-m", demo, "-o", "b.png", "a.latent.safetensors",
            "a-1.latent.safetensors");
    refused(1, NAMES("nosuch"), "decode", "-m", demo, "nosuch");
    refused(1, NAMES("a.png"), "decode", "-m", demo, "a.png");
    refused(1, NAMES("no folder"), "decode", "-m", demo, "-o", "no/b.png", "a.latent.safetensors");
}

static void test_cache_command(void **state)
{
    (void)state;
    work_clear();
    char cache[FILE_PATH_MAX];
    setenv("XDG_CACHE_HOME", path_in(scratch, "cache", cache), 1);
    setenv("SLUICE_CACHE_BYTES", "1M", 1);
    good(QUICK, "-o", "a.png", "kept");
    struct result r = succeeds(LIST("cache"));
    check_names("cache", r.out, NAMES("1 prompt, ", "cache/sluice/embeddings"));
    result_free(&r);
    good("cache", "clear");
    r = succeeds(LIST("cache"));
    check_names("cache", r.out, NAMES("0 prompts"));
    result_free(&r);
    refused(2, NAMES("only clear"), "cache", "clean");
    setenv("SLUICE_CACHE_BYTES", "0", 1);
}

static void test_reader_gone(void **state)
{
    (void)state;
    work_clear();
    struct result r = run_how(&(struct manner){ .when = "\"started\"", .close_out_at_when = true },
                              LIST(QUICK, "--json", "-o", "a.png", "x"));
    assert_int_equal(r.status, 1);
    check_line(&r, "stdout closed");
    check_names("stdout closed", r.err, NAMES("standard output"));
    check_files("a.png ");
    image_free(picture("a.png"));
    result_free(&r);
}

/* --- all ------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    const char *build = getenv("SLUICE_BUILD");
    if (!getcwd(source, sizeof source) || !realpath(text_of("%s/sluice", build ? build : "build"), binary)) {
        fprintf(stderr, "test_cli: run it from the repository's root, after make\n");
        return -1;
    }
    strcpy(scratch, "/tmp/sluice-cli-XXXXXX");
    if (!mkdtemp(scratch))
        return -1;
    sprintf(work, "%s/work", scratch);
    sprintf(demo, "%s/demo", scratch);
    sprintf(bad, "%s/bad", scratch);
    /* a copy: the shipped files may be replaced while this runs */
    copy_folder(text_of("%s/assets/demo", source), demo, false);
    return mkdir(work, 0777);
}

static int teardown(void **state)
{
    (void)state;
    remove_tree(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_options_refused),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_damaged_weights),
        cmocka_unit_test(test_damaged_tokenizers),
        cmocka_unit_test(test_init_latents_refused),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_notices),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_overwrites),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_installed),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_killed_batch),
        cmocka_unit_test(test_cache_command),
        cmocka_unit_test(test_reader_gone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
