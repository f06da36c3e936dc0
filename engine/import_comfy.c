/* import_comfy.c - ComfyUI's graphs, walked from the sampler back to where its inputs come from.
 *
 * A graph as it ran ("prompt") is {id: {"class_type", "inputs"}}; one as it was drawn
 * ("workflow") is made into that first, as far as the nodes' widgets are known here.
 * Links are followed a bounded number of times, so that a loop ends. */
#include "engine/import_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINKS_MAX = 4096, DEPTH_MAX = 32, NODES_MAX = 4096 };

struct graph {
    struct import_work *w;
    json_t *nodes;
    json_t *seen; /* object: the ids that were looked at */
    int links;    /* followed until now */
};

static const char *class_of(const json_t *node)
{
    const char *name = json_string_value(json_object_get(node, "class_type"));
    return name ? name : "";
}

static json_t *input(const json_t *node, const char *name)
{
    return json_object_get(json_object_get(node, "inputs"), name);
}

static bool is_link(const json_t *v)
{
    const json_t *id = json_array_get(v, 0);
    return json_array_size(v) == 2 && (json_is_string(id) || json_is_integer(id)) &&
        json_is_integer(json_array_get(v, 1));
}

/* The node that the value is a link to; NULL: it is none, or leads nowhere. */
static json_t *follow(struct graph *g, const json_t *v)
{
    if (!is_link(v) || g->links++ >= LINKS_MAX)
        return NULL;
    char *id = import_text(json_array_get(v, 0));
    json_t *node = id ? json_object_get(g->nodes, id) : NULL;
    if (node)
        json_object_set_new(g->seen, id, json_true());
    free(id);
    return json_is_object(node) ? node : NULL;
}

/* The node behind the first of these inputs that is a link. names ends with NULL. */
static json_t *behind(struct graph *g, const json_t *node, const char *const *names)
{
    json_t *to = NULL;
    for (; *names && !to; names++)
        to = follow(g, input(node, *names));
    return to;
}

/* --- values ---------------------------------------------------------------------------------- */

static char *value_of(struct graph *g, const json_t *v, const char *name, int depth);

/* Nodes that put texts together: string_a, string_b; text_1, text_2, ... */
static char *joined(struct graph *g, const json_t *node, int depth)
{
    const json_t *between = input(node, "delimiter");
    const char *comma = json_string_value(between ? between : input(node, "separator")), *key;
    json_t *v;
    char *all = strdup("");
    json_object_foreach(json_object_get(node, "inputs"), key, v) {
        char *part = !strncasecmp(key, "string", 6) || !strncasecmp(key, "text", 4) ? value_of(g, v, key, depth) : NULL;
        char *more = NULL;
        if (part && all && *part && strlen(all) < IMPORT_TEXT_MAX &&
            asprintf(&more, "%s%s%s", all, *all && comma ? comma : "", part) >= 0) {
            free(all);
            all = more;
        }
        free(part);
    }
    return all;
}

/* A text or number, written there or behind a link: malloc'd. NULL: it cannot be told. */
static char *value_of(struct graph *g, const json_t *v, const char *name, int depth)
{
    static const char *const names[] = { "value", "text", "string", "prompt", "int", "float", "number", "seed",
                                         "noise_seed", "populated_text", "source", "any", "anything", NULL };
    json_t *node = depth < DEPTH_MAX ? follow(g, v) : NULL;
    char *text = NULL;
    if (!node)
        return v && !is_link(v) ? import_text(v) : NULL;
    if (strcasestr(class_of(node), "concat") || strcasestr(class_of(node), "join"))
        return joined(g, node, depth + 1);
    text = value_of(g, input(node, name), name, depth + 1);
    for (int i = 0; names[i] && !text; i++)
        text = input(node, names[i]) ? value_of(g, input(node, names[i]), names[i], depth + 1) : NULL;
    return text;
}

/* "KSampler.steps" */
static const char *label(const json_t *node, const char *name, char buf[96])
{
    snprintf(buf, 96, "%.40s.%.40s", class_of(node), name);
    return buf;
}

static void take(struct graph *g, const json_t *node, const char *name, const char *setting, const char *why)
{
    char buf[96], *text;
    json_t *v = input(node, name);
    if (!v)
        return;
    text = value_of(g, v, name, 0);
    if (text)
        import_take(g->w, setting, label(node, name, buf), text, text, why);
    else
        import_leave(g->w, label(node, name, buf), "", "it comes from a node that is not known here");
    free(text);
}

/* What the node has under that name is left, unless it is as usual. */
static void leave(struct graph *g, const json_t *node, const char *name, const char *usual, const char *why)
{
    char buf[96], *text = value_of(g, input(node, name), name, 0);
    if (text && (!usual || strcmp(text, usual)))
        import_leave(g->w, label(node, name, buf), text, "%s", why);
    free(text);
}

/* --- models ---------------------------------------------------------------------------------- */

static void leave_lora(struct graph *g, const json_t *node)
{
    char buf[96], *name = value_of(g, input(node, "lora_name"), "lora_name", 0);
    import_leave(g->w, label(node, "lora_name", buf), name ? name : "", "LoRAs are not loaded");
    free(name);
}

static void read_model(struct graph *g, json_t *node)
{
    static const char *const on[] = { "model", "unet", NULL };
    char buf[96];
    for (int i = 0; node && i < DEPTH_MAX; i++, node = behind(g, node, on)) {
        const char *class = class_of(node);
        const char *key = input(node, "unet_name") ? "unet_name" : input(node, "ckpt_name") ? "ckpt_name" : NULL;
        char *name = key ? value_of(g, input(node, key), key, 0) : NULL;
        if (name) {
            import_model(g->w, label(node, key, buf), name);
            leave(g, node, "weight_dtype", "default", "how that program kept the weights");
        } else if (strcasestr(class, "lora")) {
            leave_lora(g, node);
        } else if (!strcmp(class, "ModelSamplingFlux")) {
            leave(g, node, "max_shift", "1.15", "the shift follows the size as the model says");
            leave(g, node, "base_shift", "0.5", "the shift follows the size as the model says");
        } else if (!strcasestr(class, "reroute")) {
            import_leave(g->w, class, "", "this node changes the model: it has nothing for it here");
        }
        free(name);
        if (key)
            break;
    }
}

static void read_encoders(struct graph *g, json_t *node)
{
    static const char *const on[] = { "clip", NULL };
    for (int i = 0; node && i < DEPTH_MAX; i++, node = behind(g, node, on)) {
        leave(g, node, "clip_name", NULL, "the model's own encoders are used");
        leave(g, node, "clip_name1", NULL, "the model's own encoders are used");
        leave(g, node, "clip_name2", NULL, "the model's own encoders are used");
    }
}

/* --- prompts --------------------------------------------------------------------------------- */

static void read_prompt(struct graph *g, const json_t *node, const char *setting)
{
    static const char *const on[] = { "clip", NULL };
    bool negative = !strcmp(setting, "negative");
    static const char *const names[] = { "t5xxl", "text", "text_g", "prompt" };
    const char *key = names[0];
    for (int i = 1; i < 4 && !input(node, key); i++)
        key = names[i];
    char *text = value_of(g, input(node, key), key, 0);
    if (!negative || (text && *text))
        take(g, node, key, setting, NULL);
    if (!strcmp(key, "t5xxl")) {
        leave(g, node, "clip_l", text ? text : "", "both encoders get one prompt here, that of t5xxl");
        if (!negative)
            take(g, node, "guidance", "guidance", NULL);
    }
    free(text);
    if (!negative)
        read_encoders(g, behind(g, node, on));
}

/* From what steers the sampler back to the node that holds the text. */
static void read_conditioning(struct graph *g, json_t *node, const char *setting)
{
    static const char *const on[] = { "conditioning", "conditioning_1", "conditioning_to", "positive", "cond", "",
                                      NULL };
    static const char *const on_negative[] = { "conditioning", "conditioning_1", "conditioning_to", "negative", "cond",
                                               "", NULL };
    bool negative = !strcmp(setting, "negative");
    for (int i = 0; node && i < DEPTH_MAX; i++, node = behind(g, node, negative ? on_negative : on)) {
        const char *class = class_of(node);
        if (strcasestr(class, "TextEncode")) {
            read_prompt(g, node, setting);
            return;
        }
        if (!strcmp(class, "ConditioningZeroOut"))
            return; /* as without a negative prompt */
        if (!strcmp(class, "FluxGuidance")) {
            if (!negative)
                take(g, node, "guidance", "guidance", NULL);
        } else if (!strcasestr(class, "reroute")) {
            import_leave(g->w, class, "", "this node changes the prompt's effect: there is nothing for it here");
        }
    }
    if (!negative)
        import_leave(g->w, "prompt", "", "no node of text was found before the sampler");
}

/* --- the sampler ----------------------------------------------------------------------------- */

static bool is_sampler(const json_t *node)
{
    static const char *const classes[] = { "KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced",
                                           NULL };
    for (int i = 0; classes[i]; i++)
        if (!strcmp(class_of(node), classes[i]))
            return true;
    return false;
}

/* The node that the sampler's latent begins at: an empty one, another sampler, or the last that is known. */
static json_t *first_latent(struct graph *g, const json_t *sampler)
{
    static const char *const on[] = { "latent_image", "samples", "latent", "", NULL };
    json_t *node = behind(g, sampler, on), *next = node;
    for (int i = 0; next && i < DEPTH_MAX; i++) {
        node = next;
        if (is_sampler(node) || !strncmp(class_of(node), "Empty", 5))
            break;
        next = behind(g, node, on);
    }
    return node;
}

/* The first that begins with an empty latent, else the first. */
static json_t *find_sampler(struct graph *g)
{
    const char *id;
    json_t *node, *first = NULL;
    json_object_foreach(g->nodes, id, node) {
        if (!is_sampler(node))
            continue;
        const json_t *latent = first_latent(g, node);
        if (latent && !strncmp(class_of(latent), "Empty", 5))
            return node;
        first = first ? first : node;
    }
    return first;
}

static void read_latent(struct graph *g, const json_t *sampler)
{
    const json_t *node = first_latent(g, sampler);
    char buf[96], size[80], *width, *height, *batch;
    if (!node)
        return;
    if (strncmp(class_of(node), "Empty", 5)) {
        import_leave(g->w, class_of(node), "", "the picture began with another one: here it begins with noise");
        return;
    }
    width = value_of(g, input(node, "width"), "width", 0);
    height = value_of(g, input(node, "height"), "height", 0);
    batch = value_of(g, input(node, "batch_size"), "batch_size", 0);
    snprintf(size, sizeof size, "%.30sx%.30s", width ? width : "?", height ? height : "?");
    import_take(g->w, "size", label(node, "width", buf), size, size, NULL);
    if (batch && strcmp(batch, "1"))
        take(g, node, "batch_size", "count",
             "the pictures after the first will be others: each has a seed of its own here");
    if (strcmp(size, "1024x1024"))
        import_leave(g->w, "shift", "1.15",
                     "ComfyUI's default for every size; here it follows the size, so steps lie otherwise");
    free(width);
    free(height);
    free(batch);
}

static void read_ksampler(struct graph *g, const json_t *node)
{
    take(g, node, input(node, "noise_seed") ? "noise_seed" : "seed", "seed", NULL);
    take(g, node, "steps", "steps", NULL);
    take(g, node, "cfg", "cfg", NULL);
    take(g, node, "sampler_name", "sampler", NULL);
    take(g, node, "scheduler", "schedule", NULL);
    leave(g, node, "denoise", "1", "a picture begins with noise alone here");
    leave(g, node, "start_at_step", "0", "a picture is sampled from the first step to the last");
    leave(g, node, "add_noise", "enable", "a picture begins with noise");
}

/* The nodes that a custom sampler has for each of its parts. */
static void read_parts(struct graph *g, const json_t *node)
{
    static const char *const noise[] = { "noise", NULL }, *const sampler[] = { "sampler", NULL };
    static const char *const sigmas[] = { "sigmas", NULL };
    const json_t *part = behind(g, node, noise);
    if (part ? input(part, "noise_seed") : input(node, "noise_seed"))
        take(g, part ? part : node, "noise_seed", "seed", NULL);
    if ((part = behind(g, node, sampler)) && input(part, "sampler_name"))
        take(g, part, "sampler_name", "sampler", NULL);
    else if (part)
        import_leave(g->w, class_of(part), "", "there is no such sampler");
    if ((part = behind(g, node, sigmas)) && input(part, "scheduler")) {
        take(g, part, "scheduler", "schedule", NULL);
        take(g, part, "steps", "steps", NULL);
        leave(g, part, "denoise", "1", "a picture begins with noise alone here");
    } else if (part) {
        import_leave(g->w, class_of(part), "", "there is no such schedule");
        if (input(part, "steps"))
            take(g, part, "steps", "steps", NULL);
    }
}

static void read_sampler(struct graph *g, const json_t *sampler)
{
    static const char *const guider[] = { "guider", NULL }, *const negative[] = { "negative", NULL };
    static const char *const positive[] = { "positive", "conditioning", "cond1", NULL };
    static const char *const model[] = { "model", NULL };
    const json_t *steers = behind(g, sampler, guider);
    steers = steers ? steers : sampler;
    read_conditioning(g, behind(g, steers, positive), "prompt");
    read_conditioning(g, behind(g, steers, negative), "negative");
    if (!strncmp(class_of(sampler), "KSampler", 8)) {
        read_ksampler(g, sampler);
    } else {
        read_parts(g, sampler);
        if (input(steers, "cfg"))
            take(g, steers, "cfg", "cfg", NULL);
    }
    read_latent(g, sampler);
    read_model(g, behind(g, steers, model));
    import_take(g->w, "rng", "ComfyUI", "on the processor", "torch-cpu", "where ComfyUI draws its noise");
}

/* What nobody has asked for and does more than show the picture. */
static void leave_others(struct graph *g, const json_t *sampler)
{
    static const char *const harmless[] = { "SaveImage", "PreviewImage", "VAEDecode", "VAEDecodeTiled", "Note",
                                            "MarkdownNote", "Reroute", "PrimitiveNode", NULL };
    const char *id;
    json_t *node;
    json_object_foreach(g->nodes, id, node) {
        const char *class = class_of(node);
        bool fine = node == sampler || json_object_get(g->seen, id) || !*class;
        for (int i = 0; harmless[i] && !fine; i++)
            fine = !strcmp(class, harmless[i]);
        if (fine)
            continue;
        if (input(node, "vae_name"))
            leave(g, node, "vae_name", NULL, "the model's own VAE is used");
        else if (is_sampler(node))
            import_leave(g->w, class, "", "a second pass: there is one here");
        else
            import_leave(g->w, class, "", "this node is not known here");
    }
}

bool import_comfy(struct import_work *w, json_t *prompt)
{
    struct graph g = { .w = w, .nodes = prompt, .seen = json_object() };
    json_t *sampler = json_is_object(prompt) && json_object_size(prompt) <= NODES_MAX ? find_sampler(&g) : NULL;
    if (sampler) {
        json_object_clear(g.seen); /* the search has been everywhere */
        g.links = 0;
        read_sampler(&g, sampler);
        leave_others(&g, sampler);
    }
    json_decref(g.seen);
    return sampler != NULL;
}

/* --- a graph as it was drawn ----------------------------------------------------------------- */

/* The names of a node's widgets in their order; "-": one that is of the editor only. */
static const struct { const char *class; const char *widget[11]; } widgets[] = {
    { "KSampler", { "seed", "-", "steps", "cfg", "sampler_name", "scheduler", "denoise" } },
    { "KSamplerAdvanced", { "add_noise", "noise_seed", "-", "steps", "cfg", "sampler_name", "scheduler",
                            "start_at_step", "end_at_step" } },
    { "SamplerCustom", { "add_noise", "noise_seed", "-", "cfg" } },
    { "RandomNoise", { "noise_seed", "-" } },
    { "KSamplerSelect", { "sampler_name" } },
    { "BasicScheduler", { "scheduler", "steps", "denoise" } },
    { "FluxGuidance", { "guidance" } },
    { "CFGGuider", { "cfg" } },
    { "CLIPTextEncode", { "text" } },
    { "CLIPTextEncodeFlux", { "clip_l", "t5xxl", "guidance" } },
    { "EmptyLatentImage", { "width", "height", "batch_size" } },
    { "EmptySD3LatentImage", { "width", "height", "batch_size" } },
    { "ModelSamplingFlux", { "max_shift", "base_shift", "width", "height" } },
    { "UNETLoader", { "unet_name", "weight_dtype" } },
    { "UnetLoaderGGUF", { "unet_name" } },
    { "CheckpointLoaderSimple", { "ckpt_name" } },
    { "LoraLoader", { "lora_name", "strength_model", "strength_clip" } },
    { "LoraLoaderModelOnly", { "lora_name", "strength_model" } },
    { "DualCLIPLoader", { "clip_name1", "clip_name2", "type" } },
    { "VAELoader", { "vae_name" } },
    { "PrimitiveNode", { "value" } },
    { "PrimitiveString", { "value" } },
    { "PrimitiveStringMultiline", { "value" } },
    { "PrimitiveInt", { "value" } },
    { "PrimitiveFloat", { "value" } },
    { "StringConcatenate", { "string_a", "string_b", "delimiter" } },
};

/* Where each link begins: {link: [id, output]}. */
static json_t *sources(const json_t *workflow)
{
    json_t *of = json_object(), *link;
    size_t i;
    json_array_foreach(json_object_get(workflow, "links"), i, link) {
        bool list = json_is_array(link);
        char *key = import_text(list ? json_array_get(link, 0) : json_object_get(link, "id"));
        char *from = import_text(list ? json_array_get(link, 1) : json_object_get(link, "origin_id"));
        const json_t *slot = list ? json_array_get(link, 2) : json_object_get(link, "origin_slot");
        if (key && from)
            json_object_set_new(of, key, json_pack("[s,i]", from, (int)json_integer_value(slot)));
        free(key);
        free(from);
    }
    return of;
}

static json_t *node_inputs(const json_t *node, const char *class, const json_t *from)
{
    json_t *inputs = json_object(), *v;
    const json_t *values = json_object_get(node, "widgets_values");
    size_t i;
    for (size_t k = 0; k < sizeof widgets / sizeof *widgets; k++)
        for (int n = 0; !strcmp(class, widgets[k].class) && n < 11 && widgets[k].widget[n]; n++)
            if (strcmp(widgets[k].widget[n], "-") && json_array_get(values, (size_t)n))
                json_object_set(inputs, widgets[k].widget[n], json_array_get(values, (size_t)n));
    json_array_foreach(json_object_get(node, "inputs"), i, v) { /* a link goes before what the widget shows */
        const char *name = json_string_value(json_object_get(v, "name"));
        char *link = import_text(json_object_get(v, "link"));
        json_t *source = link ? json_object_get(from, link) : NULL;
        if (name && source)
            json_object_set(inputs, name, source);
        free(link);
    }
    return inputs;
}

bool import_workflow(struct import_work *w, const json_t *workflow)
{
    enum { MUTED = 2, BYPASSED = 4 };
    json_t *from, *prompt, *node;
    const json_t *nodes = json_object_get(workflow, "nodes");
    size_t i;
    if (!json_is_array(nodes) || json_array_size(nodes) > NODES_MAX)
        return false;
    from = sources(workflow);
    prompt = json_object();
    json_array_foreach(nodes, i, node) {
        const char *class = json_string_value(json_object_get(node, "type"));
        json_int_t mode = json_integer_value(json_object_get(node, "mode"));
        char *id = import_text(json_object_get(node, "id"));
        if (id && class && mode != MUTED)
            json_object_set_new(prompt, id, json_pack("{s:s, s:o}", "class_type", mode == BYPASSED ? "Reroute" : class,
                                                      "inputs", node_inputs(node, class, from)));
        free(id);
    }
    bool found = import_comfy(w, prompt);
    json_decref(prompt);
    json_decref(from);
    return found;
}
