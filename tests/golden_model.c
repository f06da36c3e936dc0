/* golden_model.c - see golden_model.h. */
#include "tests/golden_model.h"

#include "engine/safetensors.h"
#include "engine/synth.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void scratch_make(char dir[FILE_PATH_MAX])
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, FILE_PATH_MAX, "%s/sluice-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        fail_msg("%s: %s", dir, strerror(errno));
}

void scratch_make_cache(char dir[FILE_PATH_MAX])
{
    if (!access("/dev/shm", W_OK))
        setenv("TMPDIR", "/dev/shm", 1);
    scratch_make(dir);
    setenv("XDG_CACHE_HOME", dir, 1);
}

int scratch_entries(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (const struct dirent *f; (f = readdir(d));)
        n += strcmp(f->d_name, ".") && strcmp(f->d_name, "..");
    closedir(d);
    return n;
}

static int remove_entry(const char *path, const struct stat *s, int flag, struct FTW *f)
{
    (void)s, (void)flag, (void)f;
    return remove(path);
}

void scratch_remove(const char *dir)
{
    if (*dir)
        nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void scratch_write(const char *path, const void *data, size_t bytes)
{
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f))
        fail_msg("cannot write %s", path);
}

const char *path_in(const char *dir, const char *name, char buf[FILE_PATH_MAX])
{
    struct err e = { 0 };
    if (!file_join(buf, dir, name, &e))
        fail_msg("%s", e.text);
    return buf;
}

static void make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        fail_msg("%s: %s", path, strerror(errno));
}

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
    struct err e = { 0 };
    size_t bytes;
    char *data = file_read(path_in(from_dir, name, from), 1 << 20, &bytes, &e);
    if (!data || !file_write(path_in(to_dir, name, to), data, bytes, &e))
        fail_msg("%s", e.text);
    free(data);
}

static uint64_t weight_seed(const char *dir)
{
    char path[FILE_PATH_MAX];
    struct err e = { 0 };
    struct safetensors *s;
    if (!safetensors_open(&s, path_in(dir, "stages.safetensors", path), &e))
        fail_msg("%s", e.text);
    const char *digits = safetensors_metadata(s, "weight_seed");
    if (!digits)
        fail_msg("%s has no metadata \"weight_seed\"", path);
    uint64_t seed = strtoull(digits, NULL, 10);
    safetensors_close(s);
    return seed;
}

void golden_make(const char *name, const char *to)
{
    static const struct { const char *folder, *files[4], *weights; } part[] = {
        { ".", { "model_index.json" }, NULL },
        { "scheduler", { "scheduler_config.json" }, NULL },
        { "tokenizer", { "vocab.json", "merges.txt", "tokenizer_config.json" }, NULL },
        { "tokenizer_2", { "tokenizer.json", "tokenizer_config.json" }, NULL },
        { "transformer", { "config.json" }, "diffusion_pytorch_model.safetensors" },
        { "vae", { "config.json" }, "diffusion_pytorch_model.safetensors" },
        { "text_encoder", { "config.json" }, "model.safetensors" },
        { "text_encoder_2", { "config.json" }, "model.safetensors" },
    };
    char from[FILE_PATH_MAX];
    uint64_t seed = weight_seed(path_in(GOLDEN_DIR, name, from));
    make_folder(to);
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        char source[FILE_PATH_MAX], target[FILE_PATH_MAX], header[FILE_PATH_MAX], weights[FILE_PATH_MAX];
        path_in(from, part[i].folder, source);
        make_folder(path_in(to, part[i].folder, target));
        for (int f = 0; f < 4 && part[i].files[f]; f++)
            copy_file(source, target, part[i].files[f]);
        struct err e = { 0 };
        if (part[i].weights && !synth_from_header(path_in(source, "header.json", header),
                                                  path_in(target, part[i].weights, weights), seed, &e))
            fail_msg("%s", e.text);
    }
}
