/* cmd_inspect.c - `sluice inspect`: what a model or a file of weights is. */
#include "engine/model.h"
#include "engine/shapes.h"
#include "engine/taef1.h"
#include "engine/weights.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
    "usage: sluice inspect [OPTION...] [MODEL]\n"
    "\n"
    "Says what MODEL is: its parts, depths, types and sizes, and what is missing. MODEL\n"
    "is a folder in the diffusers layout, a name in ~/.local/share/sluice/models, or one\n"
    ".safetensors file; without it, the shipped demo.\n"
    "\n"
    "  --check    compare every tensor with the shape its config asks for, and look for\n"
    "             NaN and infinity (reads all of the data); also fails on missing parts\n"
    "  --tensors  list every tensor\n"
    "  --json     the same as JSON\n"
    "  -h, --help\n";

enum { FAULTS_MAX = 50 };

/* What is wrong with the model; more than FAULTS_MAX are only counted. */
struct faults {
    size_t count;
    char text[FAULTS_MAX][sizeof((struct err *)0)->text];
};

static void fault_add(struct faults *f, const struct err *e)
{
    if (f->count < FAULTS_MAX)
        memcpy(f->text[f->count], e->text, sizeof f->text[0]);
    f->count++;
}

/* --- a component's weights in figures ------------------------------------------ */

struct figures {
    size_t tensors, files;
    uint64_t bytes, count[DT_COUNT_], parameters;
};

static struct figures figures_of(const struct weights *w)
{
    struct figures f = { .tensors = weights_count(w), .files = weights_files(w),
                         .bytes = weights_bytes(w) };
    for (size_t i = 0; i < f.tensors; i++) {
        struct tensor t = weights_tensor(w, i);
        f.count[t.dtype]++;
        f.parameters += (uint64_t)tensor_count(t);
    }
    return f;
}

/* "1.23 billion" or "4.5 million" */
static const char *parameters_text(uint64_t n, char buf[CMD_BYTES_MAX])
{
    snprintf(buf, CMD_BYTES_MAX, n < 1000000000 ? "%.3g million" : "%.2f billion",
             (double)n / (n < 1000000000 ? 1e6 : 1e9));
    return buf;
}

/* "BF16" or "BF16+F32" */
static void dtypes_text(const struct figures *f, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int t = 0; t < DT_COUNT_ && n < size; t++)
        if (f->count[t])
            n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? "+" : "", dtype_name((enum dtype)t));
}

/* --- a model -------------------------------------------------------------------- */

struct part {
    bool present, has_weights;
    struct weights *weights; /* NULL if they could not be opened */
    struct figures figures;
    char what[96];
    int width;
};

static void part_describe(const struct model *m, enum model_part p, struct part *a)
{
    const struct flux_config *f = &m->flux;
    switch (p) {
    case MODEL_CLIP:
        snprintf(a->what, sizeof a->what, "%d layers, %d heads, %d tokens", m->clip.layers,
                 m->clip.heads, m->clip.tokens);
        a->width = m->clip.width;
        break;
    case MODEL_T5:
        snprintf(a->what, sizeof a->what, "%d layers, %d heads, %d tokens", m->t5.layers,
                 m->t5.heads, m->t5.tokens);
        a->width = m->t5.width;
        break;
    case MODEL_FLUX:
        snprintf(a->what, sizeof a->what, "%d double + %d single, %d heads of %d", f->doubles,
                 f->singles, f->heads, f->head_dim);
        a->width = f->hidden;
        break;
    case MODEL_VAE:
        snprintf(a->what, sizeof a->what, "%d channels, 1/%d of the size", m->vae.latent_channels,
                 m->vae.factor);
        a->width = m->vae.channels[m->vae.levels - 1];
        break;
    case MODEL_SCHEDULER:
        if (m->scheduler.dynamic_shifting)
            snprintf(a->what, sizeof a->what, "shift %g to %g by size", (double)m->scheduler.base_shift,
                     (double)m->scheduler.max_shift);
        else
            snprintf(a->what, sizeof a->what, "shift %g", (double)m->scheduler.shift);
        break;
    default: snprintf(a->what, sizeof a->what, "present");
    }
}

struct checking {
    const struct weights *w;
    struct faults *faults;
};

static bool check_tensor(void *user, const char *name, int ndim, const int64_t *shape)
{
    struct checking *c = user;
    struct err e = { 0 };
    struct tensor t;
    if (!weights_get(c->w, &t, name, ndim, shape, &e) || !weights_finite(c->w, name, t, &e))
        fault_add(c->faults, &e);
    return true;
}

static void part_examine(const struct model *m, enum model_part p, bool check, struct part *a,
                         struct faults *faults)
{
    struct err e = { 0 };
    char dir[MODEL_PATH_MAX];
    a->present = m->present[p];
    a->has_weights = p == MODEL_CLIP || p == MODEL_T5 || p == MODEL_FLUX || p == MODEL_VAE;
    if (!a->present) {
        err_set(&e, ERR_INPUT, "%s is missing: not found in %s", model_part_name(p),
                model_part_dir(m, p, dir));
        if (check)
            fault_add(faults, &e);
        return;
    }
    part_describe(m, p, a);
    if (!a->has_weights)
        return;
    if (!weights_open_dir(&a->weights, model_part_dir(m, p, dir), model_part_name(p), &e)) {
        fault_add(faults, &e);
        return;
    }
    a->figures = figures_of(a->weights);
    if (check) {
        struct checking c = { a->weights, faults };
        shapes_visit(m, p, check_tensor, &c);
    }
}

/* The model's TAEF1; NULL: it has none, or none that can be used, which is a fault. */
static struct taef1 *taef1_examine(const struct model *m, bool check, struct faults *faults)
{
    struct err e = { 0 };
    struct taef1 *t = NULL;
    if (m->taef1[0] && m->present[MODEL_VAE] &&
        !taef1_open(&t, m->taef1, m->vae.latent_channels, m->vae.factor, &e))
        fault_add(faults, &e);
    const struct weights *w = t ? taef1_weights(t) : NULL;
    for (size_t i = 0; w && check && i < weights_count(w); i++)
        if (!weights_finite(w, weights_name(w, i), weights_tensor(w, i), &e)) {
            fault_add(faults, &e);
            err_clear(&e);
        }
    return t;
}

static json_t *tensors_json(const struct weights *w)
{
    json_t *list = json_array();
    for (size_t i = 0; i < weights_count(w); i++) {
        struct tensor t = weights_tensor(w, i);
        json_t *shape = json_array();
        for (int d = 0; d < t.ndim; d++)
            json_array_append_new(shape, json_integer(t.shape[d]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", weights_name(w, i), "dtype",
                                              dtype_name(t.dtype), "shape", shape));
    }
    return list;
}

static json_t *figures_json(const struct weights *w, const struct figures *f, bool tensors)
{
    json_t *types = json_object(), *o;
    for (int t = 0; t < DT_COUNT_; t++)
        if (f->count[t])
            json_object_set_new(types, dtype_name((enum dtype)t), json_integer((json_int_t)f->count[t]));
    o = json_pack("{s:I, s:I, s:I, s:I, s:o}", "tensors", (json_int_t)f->tensors, "files",
                  (json_int_t)f->files, "parameters", (json_int_t)f->parameters, "bytes",
                  (json_int_t)f->bytes, "dtypes", types);
    if (tensors)
        json_object_set_new(o, "list", tensors_json(w));
    return o;
}

static void json_print(json_t *o)
{
    /* json_pack refuses strings that are not UTF-8; only a path can be one */
    if (!o)
        o = json_pack("{s:s}", "error", "the path is not UTF-8");
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static json_t *depths_json(const struct model *m, enum model_part p)
{
    switch (p) {
    case MODEL_CLIP:
        return json_pack("{s:i, s:i, s:i, s:i}", "layers", m->clip.layers, "width", m->clip.width,
                         "heads", m->clip.heads, "tokens", m->clip.tokens);
    case MODEL_T5:
        return json_pack("{s:i, s:i, s:i, s:i}", "layers", m->t5.layers, "width", m->t5.width,
                         "heads", m->t5.heads, "tokens", m->t5.tokens);
    case MODEL_FLUX:
        return json_pack("{s:i, s:i, s:i, s:i, s:b}", "double", m->flux.doubles, "single",
                         m->flux.singles, "width", m->flux.hidden, "heads", m->flux.heads, "guidance",
                         m->flux.guidance);
    case MODEL_VAE:
        return json_pack("{s:i, s:i}", "latent_channels", m->vae.latent_channels, "factor",
                         m->vae.factor);
    default: return json_object();
    }
}

static json_t *taef1_json(const struct model *m, const struct taef1 *t, bool tensors)
{
    if (!t)
        return json_null();
    struct figures f = figures_of(taef1_weights(t));
    return json_pack("{s:s, s:i, s:i, s:o}", "path", m->taef1, "width", taef1_width(t), "blocks", taef1_blocks(t),
                     "weights", figures_json(taef1_weights(t), &f, tensors));
}

static void model_print_json(const struct model *m, const struct part *parts, const struct taef1 *tiny,
                             const struct faults *faults, bool tensors)
{
    json_t *list = json_array(), *wrong = json_array();
    for (int p = 0; p < MODEL_PART_COUNT; p++) {
        const struct part *a = &parts[p];
        json_t *o = json_pack("{s:s, s:b}", "name", model_part_name((enum model_part)p), "present",
                              a->present);
        if (a->present) {
            json_t *depths = depths_json(m, (enum model_part)p);
            json_object_update(o, depths);
            json_decref(depths);
        }
        if (a->weights)
            json_object_set_new(o, "weights", figures_json(a->weights, &a->figures, tensors));
        json_array_append_new(list, o);
    }
    for (size_t i = 0; i < faults->count && i < FAULTS_MAX; i++)
        json_array_append_new(wrong, json_string(faults->text[i]));
    json_print(json_pack("{s:s, s:s, s:{s:i, s:i, s:i, s:f}, s:o, s:o, s:I, s:o}", "name", m->name, "path",
                         m->path, "defaults", "width", m->defaults.width, "height",
                         m->defaults.height, "steps", m->defaults.steps, "guidance",
                         (double)m->defaults.guidance, "parts", list, "taef1", taef1_json(m, tiny, tensors),
                         "fault_count", (json_int_t)faults->count, "faults", wrong));
}

static void tensors_print(const struct weights *w, const char *indent)
{
    size_t longest = 0;
    for (size_t i = 0; i < weights_count(w); i++) {
        size_t n = strlen(weights_name(w, i));
        longest = n > longest && n <= 80 ? n : longest;
    }
    for (size_t i = 0; i < weights_count(w); i++) {
        char shape[128], bytes[CMD_BYTES_MAX];
        struct tensor t = weights_tensor(w, i);
        size_t n = strlen(weights_name(w, i));
        fputs(indent, stdout);
        cmd_print(stdout, weights_name(w, i));
        printf("%*s  %-26s %9s\n", n < longest ? (int)(longest - n) : 0, "",
               tensor_describe(t, shape, sizeof shape), cmd_bytes(tensor_bytes(t), bytes));
    }
}

/* Below the parts, of which it is none. */
static void taef1_print(const struct model *m, const struct taef1 *t, bool tensors)
{
    char types[128], what[64], bytes[CMD_BYTES_MAX];
    if (!t)
        return;
    struct figures f = figures_of(taef1_weights(t));
    dtypes_text(&f, types, sizeof types);
    snprintf(what, sizeof what, "for previews: %d blocks", taef1_blocks(t));
    printf("%-15s %-40s %6d  %-9s %8zu %6zu %9s\n%16s", "taef1", what, taef1_width(t), types, f.tensors, f.files,
           cmd_bytes(f.bytes, bytes), "");
    cmd_print(stdout, m->taef1);
    putchar('\n');
    if (tensors)
        tensors_print(taef1_weights(t), "  ");
}

static void model_print(const struct model *m, const struct part *parts, const struct taef1 *tiny,
                        const struct faults *faults, bool check, bool tensors)
{
    cmd_print(stdout, m->name);
    printf("  %s, %d x %d, %d steps", !m->present[MODEL_FLUX] ? "FLUX.1"
                                      : m->flux.guidance      ? "FLUX.1 with guidance (dev)"
                                                              : "FLUX.1 without guidance (schnell)",
           m->defaults.width, m->defaults.height, m->defaults.steps);
    if (m->defaults.guidance > 0)
        printf(", guidance %g", (double)m->defaults.guidance);
    fputs("\nin ", stdout);
    cmd_print(stdout, m->path);
    printf("\n\n%-15s %-40s %6s  %-9s %8s %6s %9s\n", "part", "what", "width", "dtype", "tensors",
           "files", "size");
    uint64_t total = 0, parameters = 0;
    char bytes[CMD_BYTES_MAX], count[CMD_BYTES_MAX];
    for (int p = 0; p < MODEL_PART_COUNT; p++) {
        const struct part *a = &parts[p];
        char types[128];
        printf("%-15s ", model_part_name((enum model_part)p));
        if (!a->present) {
            puts("MISSING");
        } else if (!a->has_weights) {
            puts(a->what);
        } else if (!a->weights) {
            printf("%-40s %6d  UNREADABLE\n", a->what, a->width);
        } else {
            dtypes_text(&a->figures, types, sizeof types);
            printf("%-40s %6d  %-9s %8zu %6zu %9s\n", a->what, a->width, types, a->figures.tensors,
                   a->figures.files, cmd_bytes(a->figures.bytes, bytes));
            total += a->figures.bytes;
            parameters += a->figures.parameters;
            if (tensors)
                tensors_print(a->weights, "  ");
        }
    }
    taef1_print(m, tiny, tensors);
    printf("\n%s parameters, %s\n", parameters_text(parameters, count), cmd_bytes(total, bytes));
    if (check && !faults->count)
        puts("checked: every tensor is there, has its shape and is finite");
    for (size_t i = 0; i < faults->count && i < FAULTS_MAX; i++) {
        fputs(i ? "  " : "\nfaults:\n  ", stdout);
        cmd_print(stdout, faults->text[i]);
        putchar('\n');
    }
    if (faults->count > FAULTS_MAX)
        printf("  and %zu more\n", faults->count - FAULTS_MAX);
}

static int inspect_model(const char *path, bool check, bool tensors, bool json)
{
    struct err e = { 0 };
    struct model *m = malloc(sizeof *m);
    struct faults *faults = calloc(1, sizeof *faults);
    struct part parts[MODEL_PART_COUNT] = { 0 };
    int status = 1;
    if (!m || !faults) {
        err_set(&e, ERR_MEMORY, "no memory");
        cmd_fail(&e);
        goto done;
    }
    if (!model_open(m, path, false, &e)) {
        cmd_fail(&e);
        goto done;
    }
    for (int p = 0; p < MODEL_PART_COUNT; p++)
        part_examine(m, (enum model_part)p, check, &parts[p], faults);
    if (check && !model_consistent(m, &e))
        fault_add(faults, &e);
    struct taef1 *tiny = taef1_examine(m, check, faults);
    if (json)
        model_print_json(m, parts, tiny, faults, tensors);
    else
        model_print(m, parts, tiny, faults, check, tensors);
    taef1_close(tiny);
    for (int p = 0; p < MODEL_PART_COUNT; p++)
        weights_close(parts[p].weights);
    status = faults->count ? 1 : 0;
    if (status) {
        err_clear(&e);
        err_set(&e, ERR_INPUT, "%s", faults->text[0]);
        if (faults->count > 1)
            err_prefix(&e, "%zu faults, the first", faults->count);
        fflush(stdout);
        cmd_fail(&e);
    }
done:
    free(faults);
    free(m);
    return status;
}

/* --- one file ---------------------------------------------------------------------- */

static const char *kind_of(const struct weights *w)
{
    static const struct { const char *part, *kind; } kinds[] = {
        { "lora_", "a LoRA" },
        { ".lora.", "a LoRA" },
        { "double_blocks.0.", "FLUX.1 transformer, names of the official repository" },
        { "single_transformer_blocks.0.", "FLUX.1 transformer, names of diffusers" },
        { "encoder.block.0.layer.0.SelfAttention", "T5 encoder" },
        { "embeddings.token_embedding", "CLIP text encoder" },
        { "decoder.up_blocks.0.", "VAE, names of diffusers" },
        { "decoder.up.0.", "VAE, names of the official repository" },
        { "decoder.layers.0.weight", "TAEF1 or another tiny decoder, names of diffusers" },
        { "3.conv.4.weight", "TAEF1 or another tiny decoder or encoder, names of taesd" },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < weights_count(w); i++)
            if (strstr(weights_name(w, i), kinds[k].part))
                return kinds[k].kind;
    return "tensors of no kind that sluice knows";
}

static int inspect_file(const char *path, bool check, bool tensors, bool json)
{
    struct err e = { 0 };
    struct weights *w;
    if (!weights_open_file(&w, path, "file", &e))
        return cmd_fail(&e);
    struct figures f = figures_of(w);
    if (json) {
        json_t *o = json_pack("{s:s, s:s, s:o}", "path", path, "kind", kind_of(w), "weights",
                              figures_json(w, &f, tensors));
        json_print(o);
    } else {
        char types[128], bytes[CMD_BYTES_MAX], count[CMD_BYTES_MAX];
        dtypes_text(&f, types, sizeof types);
        cmd_print(stdout, path);
        printf("\n%s: %zu tensors, %s, %s parameters, %s\n", kind_of(w), f.tensors,
               *types ? types : "no type", parameters_text(f.parameters, count),
               cmd_bytes(f.bytes, bytes));
        if (tensors)
            tensors_print(w, "  ");
    }
    for (size_t i = 0; check && i < f.tensors && !e.kind; i++) {
        struct tensor t = weights_tensor(w, i);
        if (t.dtype == DT_F32 || t.dtype == DT_BF16 || t.dtype == DT_F16)
            weights_finite(w, weights_name(w, i), t, &e);
    }
    weights_close(w);
    if (e.kind)
        return cmd_fail(&e);
    if (check && !json)
        puts("checked: every number is finite");
    return 0;
}

enum { CHECK = 1, TENSORS, JSON };
const struct option cmd_inspect_options[] = {
    { "check", no_argument, NULL, CHECK },
    { "tensors", no_argument, NULL, TENSORS },
    { "json", no_argument, NULL, JSON },
    { "help", no_argument, NULL, 'h' },
    { 0 },
};

int cmd_inspect(int argc, char **argv)
{
    bool check = false, tensors = false, json = false;
    int which;
    optind = 0;
    opterr = 0;
    while ((which = getopt_long(argc, argv, "h", cmd_inspect_options, NULL)) != -1) {
        switch (which) {
        case CHECK: check = true; break;
        case TENSORS: tensors = true; break;
        case JSON: json = true; break;
        case 'h': fputs(help, stdout); return 0;
        default: return cmd_no_option("inspect", argv);
        }
    }
    if (argc - optind > 1)
        return cmd_usage("inspect", "expected one model");
    struct err e = { 0 };
    char path[MODEL_PATH_MAX];
    struct stat st;
    if (!model_find(path, argv[optind], &e))
        return cmd_fail(&e);
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return inspect_file(path, check, tensors, json);
    return inspect_model(path, check, tensors, json);
}
