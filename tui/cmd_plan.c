/* cmd_plan.c - `sluice plan`: where the memory of a job will go, before it
 * runs. Prints what the plan says; decides nothing. */
#include "engine/pipeline.h"
#include "engine/plan.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"

#include <getopt.h>
#include <jansson.h>

enum { OPT_JSON = 512 };

static const struct cmd_option own[] = { { "json", OPT_JSON, NULL, "the same as one JSON object" }, { 0 } };

static int take(void *to, int letter, const char *value)
{
    (void)value;
    *(bool *)to |= letter == OPT_JSON;
    return 0;
}

const struct cmd_command cmd_plan_command = {
    .name = "plan",
    .usage = "usage: sluice plan [options]\n"
             "\n"
             "Says where every byte of a picture's memory will go, stage by stage, before\n"
             "anything runs. The same plan is what sluice generate runs by.\n",
    .own = own,
    .take = take,
};

static const char *const ring_names[] = { [RING_SINGLE] = "single", [RING_DOUBLE] = "double", [RING_FULL] = "full",
                                          [RING_NONE] = "none" };

static void print_json(const struct plan *p, const struct job *j)
{
    json_t *phases = json_array();
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *q = &p->phase[i];
        struct link_bytes n = placement_link_bytes(&q->placement, &q->trace);
        json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I}",
            "phase", phase_name(i), "stage", stage_name(phase_stage(i)),
            "weight_bytes", (json_int_t)trace_bytes(&q->trace), "activation_bytes", (json_int_t)q->activations,
            "resident_bytes", (json_int_t)q->placement.resident_bytes,
            "ring_bytes", (json_int_t)q->placement.ring_bytes,
            "ring", ring_names[q->ring], "peak_bytes", (json_int_t)q->peak, "repeats", (json_int_t)q->repeats,
            "link_bytes", (json_int_t)(n.once + n.each * q->repeats), "flops", (json_int_t)q->flops);
        if (i == PHASE_STEP)
            json_object_set_new(o, "chunk", json_integer(q->pieces.flux_chunk));
        if (i == PHASE_T5)
            json_object_set_new(o, "chunk", json_integer(q->pieces.t5.chunk));
        if (i == PHASE_VAE)
            json_object_set_new(o, "band", json_integer(q->pieces.vae.band));
        json_object_set_new(o, "seconds", q->seconds > 0 ? json_real(q->seconds) : json_null());
        json_array_append_new(phases, o);
    }
    const struct plan_preview *v = &p->preview;
    json_t *preview = v->scale ? json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "scale", v->scale,
                                     "width", j->width / v->scale, "height", j->height / v->scale, "weight_bytes",
                                     (json_int_t)v->weights, "activation_bytes", (json_int_t)v->activations,
                                     "peak_bytes",
                                     (json_int_t)v->peak, "repeats", (json_int_t)v->repeats, "flops",
                                     (json_int_t)v->flops,
                                     "seconds", v->seconds > 0 ? json_real(v->seconds) : json_null()) : json_null();
    json_t *o = json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "width", j->width, "height",
                          j->height,
                          "steps", j->steps, "budget_bytes", (json_int_t)p->budget, "arena_bytes",
                          (json_int_t)p->arena_bytes, "kept_bytes", (json_int_t)p->kept_bytes, "link_bytes",
                          (json_int_t)plan_link_bytes(p), "seconds",
                          plan_seconds(p) > 0 ? json_real(plan_seconds(p)) : json_null(), "disk_seconds",
                          p->disk_seconds > 0 ? json_real(p->disk_seconds) : json_null(), "phases", phases,
                          "preview", preview);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

/* n cells of the bar, at least one for anything at all. */
static int cells(size_t bytes, size_t scale, int width)
{
    int n = (int)((double)bytes / (double)scale * width + 0.5);
    return bytes && !n ? 1 : n;
}

static void print_run(const char *cell, int n)
{
    while (n-- > 0)
        fputs(cell, stdout);
}

static void print_bars(const struct plan *p)
{
    enum { WIDTH = 48 };
    size_t scale = p->budget > p->arena_bytes ? p->budget : p->arena_bytes;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *q = &p->phase[i];
        size_t kept = p->kept_bytes ? p->kept_bytes : 0;
        int resident = cells(kept + (kept && i <= PHASE_T5 ? 0 : q->placement.resident_bytes), scale, WIDTH);
        int ring = cells(q->placement.ring_bytes, scale, WIDTH), work = cells(q->activations, scale, WIDTH);
        int left = WIDTH - resident - ring - work;
        char how[48];
        plan_pieces_text(&q->pieces, how);
        printf("  %-11s ", phase_name(i));
        print_run("█", resident);
        print_run("▒", ring);
        print_run("▓", left < 0 ? work + left : work);
        print_run("·", left);
        printf("%s%s\n", *how ? "  " : "", how);
    }
    puts("              █ weights, resident   ▒ ring for streamed weights   ▓ activations");
}

static const char *bytes_or_dash(size_t bytes, char buf[CMD_BYTES_MAX])
{
    return bytes ? cmd_bytes(bytes, buf) : "-";
}

/* "12.6 s", "2 min 5 s", "1 h 20 min"; "-" if unknown. */
static const char *seconds_text(double s, char buf[CMD_BYTES_MAX])
{
    long whole = (long)(s + 0.5);
    if (s <= 0)
        return "-";
    if (s < 99.95)
        snprintf(buf, CMD_BYTES_MAX, "%.*f s", s < 9.995 ? 2 : 1, s);
    else if (whole < 6000)
        snprintf(buf, CMD_BYTES_MAX, "%ld min %ld s", whole / 60, whole % 60);
    else
        snprintf(buf, CMD_BYTES_MAX, "%ld h %ld min", whole / 3600, whole % 3600 / 60);
    return buf;
}

static void print_title(const struct plan *p, const struct job *j, const struct model *m)
{
    char a[CMD_BYTES_MAX];
    cmd_print(stdout, m->name);
    printf(", %dx%d, %d steps, %s: peaks at %s", j->width, j->height, j->steps, precision_name(j->precision),
           cmd_bytes(p->arena_bytes, a));
    if (p->budget)
        printf(" of %s", cmd_bytes(p->budget, a));
    printf(", in %s", stage_name(phase_stage(plan_top(p))));
    if (plan_seconds(p) > 0)
        printf("; about %s%s", seconds_text(plan_seconds(p), a), job_pictures(j) > 1 ? " for each picture" : "");
    puts("\n");
}

static void print_table(const struct plan *p, const struct job *j, const struct model *m)
{
    char a[CMD_BYTES_MAX], b[CMD_BYTES_MAX], c[CMD_BYTES_MAX], d[CMD_BYTES_MAX], f[CMD_BYTES_MAX], g[CMD_BYTES_MAX],
         h[CMD_BYTES_MAX];
    const struct plan_preview *v = &p->preview;
    print_title(p, j, m);
    printf("  %-11s %8s %12s %9s %9s %9s %10s %13s\n", "phase", "weights", "activations", "resident", "ring", "peak",
           "over link", "time");
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *q = &p->phase[i];
        struct link_bytes n = placement_link_bytes(&q->placement, &q->trace);
        printf("  %-11s %8s %12s %9s %9s %9s %10s %13s\n", phase_name(i), cmd_bytes(trace_bytes(&q->trace), a),
               cmd_bytes(q->activations, b), bytes_or_dash(q->placement.resident_bytes, c),
               bytes_or_dash(q->placement.ring_bytes, d), cmd_bytes(q->peak, f),
               bytes_or_dash(n.once + n.each * q->repeats, g), seconds_text(q->seconds, h));
        if (i == PHASE_STEP && v->scale)
            printf("  %-11s %8s %12s %9s %9s %9s %10s %13s\n", "previews", cmd_bytes(v->weights, a),
                   cmd_bytes(v->activations, b), "-", "-", cmd_bytes(v->peak, f),
                   p->budget ? cmd_bytes(v->weights * v->repeats, g) : "-", seconds_text(v->seconds, h));
    }
    putchar('\n');
    print_bars(p);
    if (p->kept_bytes)
        printf("\n  The text encoders stay on the device (%s) for all prompts.\n", cmd_bytes(p->kept_bytes, a));
    if (v->scale)
        printf("\n  TAEF1 makes the previews, %dx%d, in the steps' own room.\n", j->width / v->scale,
               j->height / v->scale);
    if (!p->budget)
        puts("\n  No budget: weights are used where they lie in the mapped files.");
    if (p->disk_seconds > 0)
        printf("\n  The first time, reading the files from disk: up to %s more.\n", seconds_text(p->disk_seconds, a));
}

int cmd_plan(int argc, char **argv)
{
    struct err e = { 0 };
    struct cmd_options options;
    char path[MODEL_PATH_MAX], notice[256], less[EVENT_TEXT_BYTES] = "";
    bool json = false;
    int status = cmd_options_read(&options, &cmd_plan_command, &json, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind != argc) {
        cmd_options_free(&options);
        return cmd_usage("plan", "%s: it takes no arguments", argv[optind]);
    }
    static struct model m;
    struct job j = { 0 };
    struct pipeline *p = NULL;
    struct plan plan = { 0 };
    bool ok = cmd_options_model(&options, path, &e) && model_open(&m, path, true, &e) &&
              cmd_options_job(&options, &m, &j, &e) && job_check(&j, notice, &e);
    if (ok && notice[0])
        cmd_say(notice);
    ok = ok && pipeline_new(&p, &m, &e) && pipeline_measure(p, &j, &e) && pipeline_plan(p, &j, &plan, less, &e);
    if (less[0])
        cmd_say(less);
    if (ok && json)
        print_json(&plan, &j);
    else if (ok)
        print_table(&plan, &j, &m);
    plan_free(&plan);
    pipeline_free(p);
    job_free(&j);
    cmd_options_free(&options);
    return ok ? 0 : cmd_fail(&e);
}
