/* golden_files.c - see golden_files.h. */
#include "tests/golden_files.h"

#include "engine/file.h"
#include "engine/safetensors.h"
#include "engine/synth.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

static bool make_folder(const char *path, struct err *e)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST || err_errno(e, errno, "%s", path);
}

static bool copy_file(const char *from_dir, const char *to_dir, const char *name, struct err *e)
{
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
    size_t bytes;
    if (!file_join(from, from_dir, name, e) || !file_join(to, to_dir, name, e))
        return false;
    char *data = file_read(from, 1 << 20, &bytes, e);
    bool ok = data && file_write(to, data, bytes, e);
    free(data);
    return ok;
}

static bool weight_seed(const char *dir, uint64_t *seed, struct err *e)
{
    char path[FILE_PATH_MAX];
    struct safetensors *s;
    if (!file_join(path, dir, "stages.safetensors", e) || !safetensors_open(&s, path, e))
        return false;
    const char *digits = safetensors_metadata(s, "weight_seed");
    if (digits)
        *seed = strtoull(digits, NULL, 10);
    else
        err_set(e, ERR_INPUT, "%s has no metadata \"weight_seed\"", path);
    safetensors_close(s);
    return digits;
}

bool golden_write(const char *name, const char *to, struct err *e)
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
    uint64_t seed;
    bool ok = file_join(from, GOLDEN_DIR, name, e) && weight_seed(from, &seed, e) && make_folder(to, e);
    for (size_t i = 0; ok && i < sizeof part / sizeof part[0]; i++) {
        char source[FILE_PATH_MAX], target[FILE_PATH_MAX], header[FILE_PATH_MAX], weights[FILE_PATH_MAX];
        ok = file_join(source, from, part[i].folder, e) && file_join(target, to, part[i].folder, e) &&
             make_folder(target, e);
        for (int f = 0; ok && f < 4 && part[i].files[f]; f++)
            ok = copy_file(source, target, part[i].files[f], e);
        if (ok && part[i].weights)
            ok = file_join(header, source, "header.json", e) && file_join(weights, target, part[i].weights, e) &&
                 synth_from_header(header, weights, seed, e);
    }
    return ok;
}
