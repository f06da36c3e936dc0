/* config.c - see config.h. */
#include "tui/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool config_path(char path[FILE_PATH_MAX], const char *name)
{
    int n = file_xdg(path, "XDG_CONFIG_HOME", ".config", name);

    return n && n < FILE_PATH_MAX;
}

/* A fault at the value. */
static void wrong(struct yaml_faults *f, const char *file, const struct yaml_entry *at, const char *text)
{
    yaml_fault(f, file, at->line, at->column, "%s", text);
}

static const char *one_text(const struct yaml_entry *v)
{
    return v->kind == YAML_TEXT && v->text ? v->text : NULL;
}

/* --- keys ------------------------------------------------------------------------ */

static void take_set(enum keys_set *set, const char *file, const struct yaml_entry *v, struct yaml_faults *f)
{
    const char *text = one_text(v);

    for (int i = 0; text && i < KEYS_SETS; i++)
        if (!strcmp(text, keys_set_name[i])) {
            *set = (enum keys_set)i;
            return;
        }
    wrong(f, file, v, "set is emacs or vi");
}

static void take_keys(struct keys *k, const char *file, const struct yaml_entry *v, struct yaml_faults *f)
{
    enum action a = keys_action_named(v->key);
    const char *names[KEYS_EACH + 1];
    struct err e = { 0 };
    int n = 0;

    if (!a) {
        yaml_fault(f, file, v->key_line, v->key_column, "%.60s is no action: sluice keys lists them", v->key);
        return;
    }
    if (v->kind == YAML_REFUSED) return;
    if (one_text(v)) {
        names[n++] = v->text;
    } else if (v->kind == YAML_LIST) {
        for (const struct yaml_entry *i = v->first; i && n <= KEYS_EACH; i = i->next) {
            if (!one_text(i)) {
                wrong(f, file, i, "a key is expected, like p, ctrl-p, f5");
                return;
            }
            names[n++] = i->text;
        }
    } else {
        yaml_fault(f, file, v->line, v->column, "%s: a key or a list of keys is expected; none is written []", v->key);
        return;
    }
    if (!keys_rebind(k, a, names, n, &e)) wrong(f, file, v, e.text);
}

static const struct yaml_entry *entry(const struct yaml_entry *root, const char *key)
{
    const struct yaml_entry *v = root->first;

    while (v && strcmp(v->key, key)) v = v->next;
    return v;
}

bool config_keys(struct keys *k, const char *path, struct err *e)
{
    struct yaml_faults f = { 0 };
    struct yaml_entry *root = yaml_read(path, &f, e);
    const struct yaml_entry *v = root ? entry(root, "set") : NULL;
    enum keys_set chosen = KEYS_EMACS;
    enum action which[2];
    struct err conflict = { 0 };
    bool ok;

    if (v) take_set(&chosen, path, v, &f);
    keys_init(k, chosen);
    for (v = root ? root->first : NULL; v; v = v->next)
        if (strcmp(v->key, "set")) take_keys(k, path, v, &f);
    if (root && !f.count && !keys_check(k, which, &conflict)) {
        v = entry(root, keys_action(which[1])->name);
        if (!v) v = entry(root, keys_action(which[0])->name); /* the file has changed at least one of the two */
        yaml_fault(&f, path, v ? v->line : 0, v ? v->column : 0, "%s", conflict.text);
    }
    ok = yaml_faultless(&f, e) && root;
    yaml_entry_free(root);
    return ok;
}

bool config_user_keys(struct keys *k, struct err *e)
{
    char path[FILE_PATH_MAX];

    keys_init(k, KEYS_EMACS);
    return !config_path(path, "keys.yaml") || !file_exists(path) || config_keys(k, path, e);
}

/* --- themes ----------------------------------------------------------------------- */

static void take_role(struct theme *t, const char *file, const struct yaml_entry *v, struct yaml_faults *f)
{
    const char *text = one_text(v);

    if (v->kind == YAML_REFUSED) return;
    if (!strcmp(v->key, "base")) {
        if (!text || !theme_base_named(&t->base, text)) wrong(f, file, v, "base is auto, dark, light or mono");
        return;
    }
    for (int i = 0; i < COLOUR_COUNT; i++)
        if (!strcmp(v->key, theme_role_name[i])) {
            if (!text || !theme_colour_parse(&t->of[i], text))
                wrong(f, file, v, "a colour is \"#rrggbb\" (in quotes), default, grey, 0 to 255, or black, red, green, "
                                  "yellow, blue, magenta, cyan, white, each also with bright-");
            return;
        }
    yaml_fault(f, file, v->key_line, v->key_column,
               "%.60s is no role: use base, text, dim, border, accent, good, warn, bad, bar, bar-also, track", v->key);
}

bool config_theme(struct theme *t, const char *path, struct err *e)
{
    struct yaml_faults f = { 0 };
    struct yaml_entry *root = yaml_read(path, &f, e);
    bool ok;

    *t = (struct theme){ 0 };
    for (const struct yaml_entry *v = root ? root->first : NULL; v; v = v->next) take_role(t, path, v, &f);
    ok = yaml_faultless(&f, e) && root;
    yaml_entry_free(root);
    return ok;
}

bool config_user_theme(struct theme *t, const char *wanted, struct err *e)
{
    char path[FILE_PATH_MAX];

    *t = (struct theme){ 0 };
    if (wanted && theme_base_named(&t->base, wanted)) return true;
    if (wanted && (strchr(wanted, '/') || file_exists(wanted))) return config_theme(t, wanted, e);
    if (wanted) return err_set(e, ERR_INPUT, "no theme \"%.64s\": use auto, dark, light, mono or a file", wanted);
    return !config_path(path, "theme.yaml") || !file_exists(path) || config_theme(t, path, e);
}
