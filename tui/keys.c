/* keys.c - see keys.h. */
#include "tui/keys.h"
#include "tui/edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

const char *const keys_set_name[KEYS_SETS] = { "emacs", "vi" };

static const struct keys_action actions[ACTION_COUNT] = {
#define ACTION(id, name, contexts, emacs, vi, label, help) \
    [ACTION_##id] = { name, contexts, { emacs, vi }, label, help },
#include "tui/keys_table.h"
#undef ACTION
};

const struct keys_group keys_groups[] = {
    { KEYS_MAIN, "The main screen" },
    { KEYS_PROMPT | KEYS_SEARCH, "The prompt" },
    { KEYS_FIELD, "A field of the form" },
    { KEYS_ANYWHERE, "Everywhere" },
    { KEYS_ANYWHERE & ~KEYS_PROMPT, "Lists and dialogs" },
    { KEYS_PRESETS, "Presets" },
    { KEYS_PROFILE, "The profile" },
    { KEYS_QUEUE, "The queue" },
    { KEYS_GALLERY, "The gallery" },
    { KEYS_PICTURE, "The picture" },
    { KEYS_DOCTOR, "The doctor" },
    { 0, NULL },
};

const struct keys_action *keys_action(enum action a)
{
    return &actions[a];
}

enum action keys_action_named(const char *name)
{
    for (int a = 1; a < ACTION_COUNT; a++)
        if (!strcmp(actions[a].name, name)) return (enum action)a;
    return ACTION_NONE;
}

int keys_group_of(enum action a)
{
    int best = 0;

    for (int i = 0; keys_groups[i].title; i++) {
        unsigned has = keys_groups[i].contexts, now = keys_groups[best].contexts;
        bool fits = !(actions[a].contexts & ~has), fitted = !(actions[a].contexts & ~now);
        if (fits && (!fitted || __builtin_popcount(has) < __builtin_popcount(now))) best = i;
    }
    return best;
}

/* --- names of keys ------------------------------------------------------------ */

static const struct { enum key_kind kind; uint32_t ch; const char *name, *shown; } named[] = {
    { K_ENTER, 0, "enter", "Enter" },       { K_TAB, 0, "tab", "Tab" },
    { K_BACKTAB, 0, "shift-tab", "Shift-Tab" }, { K_ESC, 0, "esc", "Esc" },
    { K_BACKSPACE, 0, "backspace", "Backspace" }, { K_DELETE, 0, "delete", "Del" },
    { K_INSERT, 0, "insert", "Ins" },       { K_UP, 0, "up", "Up" },
    { K_DOWN, 0, "down", "Down" },          { K_LEFT, 0, "left", "Left" },
    { K_RIGHT, 0, "right", "Right" },       { K_HOME, 0, "home", "Home" },
    { K_END, 0, "end", "End" },             { K_PAGEUP, 0, "page-up", "PgUp" },
    { K_PAGEDOWN, 0, "page-down", "PgDn" }, { K_CHAR, ' ', "space", "Space" },
    { K_F1, 0, "f1", "F1" },   { K_F2, 0, "f2", "F2" },    { K_F3, 0, "f3", "F3" },    { K_F4, 0, "f4", "F4" },
    { K_F5, 0, "f5", "F5" },   { K_F6, 0, "f6", "F6" },    { K_F7, 0, "f7", "F7" },    { K_F8, 0, "f8", "F8" },
    { K_F9, 0, "f9", "F9" },   { K_F10, 0, "f10", "F10" }, { K_F11, 0, "f11", "F11" }, { K_F12, 0, "f12", "F12" },
};
enum { NAMED = sizeof named / sizeof *named };

bool keys_parse(struct keys_chord *c, const char *text)
{
    utf8proc_int32_t ch;
    utf8proc_ssize_t n;

    *c = (struct keys_chord){ 0 };
    /* a name first, since shift-tab is one; then what may stand before it */
    for (;;) {
        for (int i = 0; i < NAMED; i++)
            if (!strcasecmp(text, named[i].name)) {
                c->kind = named[i].kind;
                c->ch = named[i].ch;
                return true;
            }
        if (!strncasecmp(text, "ctrl-", 5)) c->mods |= K_CTRL, text += 5;
        else if (!strncasecmp(text, "alt-", 4)) c->mods |= K_ALT, text += 4;
        else if (!strncasecmp(text, "shift-", 6)) c->mods |= K_SHIFT, text += 6;
        else break;
    }
    n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &ch);
    if (n <= 0 || ch <= ' ' || text[n] || (ch >= 0x7f && ch < 0xa0) || c->mods & K_SHIFT) return false;
    if (c->mods & K_CTRL) { /* a terminal sends these, and calls them so */
        if (ch >= 'A' && ch <= 'Z') ch += 'a' - 'A';
        if (!((ch >= 'a' && ch <= 'z') || strchr("\\]^_", (int)ch)) || ch > 0x7f) return false;
    }
    c->kind = K_CHAR;
    c->ch = (uint32_t)ch;
    return true;
}

const char *keys_chord_name(const struct keys_chord *c, char buf[KEYS_NAME_MAX])
{
    int n = 0;

    buf[0] = 0;
    if (c->mods & K_CTRL) n += snprintf(buf + n, KEYS_NAME_MAX - (size_t)n, "^");
    if (c->mods & K_ALT) n += snprintf(buf + n, KEYS_NAME_MAX - (size_t)n, "Alt-");
    if (c->mods & K_SHIFT) n += snprintf(buf + n, KEYS_NAME_MAX - (size_t)n, "Shift-");
    for (int i = 0; i < NAMED; i++)
        if (named[i].kind == c->kind && named[i].ch == c->ch) {
            snprintf(buf + n, KEYS_NAME_MAX - (size_t)n, "%s", named[i].shown);
            return buf;
        }
    if (c->kind == K_CHAR) {
        uint32_t ch = c->mods & K_CTRL && c->ch >= 'a' && c->ch <= 'z' ? c->ch - ('a' - 'A') : c->ch;
        n += (int)utf8proc_encode_char((utf8proc_int32_t)ch, (utf8proc_uint8_t *)buf + n);
        buf[n] = 0;
    }
    return buf;
}

/* --- bindings ------------------------------------------------------------------ */

void keys_init(struct keys *k, enum keys_set set)
{
    memset(k, 0, sizeof *k);
    for (int a = 1; a < ACTION_COUNT; a++) {
        const char *s = actions[a].keys[set] ? actions[a].keys[set] : actions[a].keys[KEYS_EMACS];
        for (int i = 0; i < KEYS_EACH && *s; i++) {
            char name[KEYS_NAME_MAX];
            size_t n = strcspn(s, " ");
            snprintf(name, sizeof name, "%.*s", (int)n, s);
            keys_parse(&k->of[a][i], name); /* a test reads the whole table */
            s += n + strspn(s + n, " ");
        }
    }
}

bool keys_rebind(struct keys *k, enum action a, const char *const *names, int count, struct err *e)
{
    struct keys_chord chord[KEYS_EACH] = { { 0 } };

    if (count > KEYS_EACH)
        return err_set(e, ERR_INPUT, "%s has %d keys, and at most %d are possible", actions[a].name, count, KEYS_EACH);
    for (int i = 0; i < count; i++)
        if (!keys_parse(&chord[i], names[i]))
            return err_set(e, ERR_INPUT, "%s: \"%s\" is no key; keys are written like p, ctrl-p, alt-p, f5, page-up",
                           actions[a].name, names[i]);
    memcpy(k->of[a], chord, sizeof chord);
    return true;
}

static bool same(const struct keys_chord *a, const struct keys_chord *b)
{
    return a->kind == b->kind && a->ch == b->ch && a->mods == b->mods;
}

static bool letter(const struct keys_chord *c)
{
    return c->kind == K_CHAR && !c->mods;
}

/* Where the chord works for the action. */
static unsigned contexts_of(enum action a, const struct keys_chord *c)
{
    return actions[a].contexts & (letter(c) ? ~(unsigned)KEYS_TYPED : KEYS_ANYWHERE);
}

bool keys_check(const struct keys *k, enum action which[2], struct err *e)
{
    char name[KEYS_NAME_MAX];

    for (int a = 1; a < ACTION_COUNT; a++)
        for (int b = 1; b < a; b++)
            for (int i = 0; i < KEYS_EACH && k->of[a][i].kind; i++)
                for (int j = 0; j < KEYS_EACH && k->of[b][j].kind; j++) {
                    const struct keys_chord *x = &k->of[a][i], *y = &k->of[b][j];
                    if (!same(x, y) || !(contexts_of((enum action)a, x) & contexts_of((enum action)b, y))) continue;
                    which[0] = (enum action)b;
                    which[1] = (enum action)a;
                    return err_set(e, ERR_INPUT, "%s is the key of both %s and %s, which are there at one time",
                                   keys_chord_name(x, name), actions[b].name, actions[a].name);
                }
    return true;
}

enum action keys_find(const struct keys *k, enum keys_context at, const struct key *key)
{
    struct keys_chord c = { key->kind, key->ch, key->mods };

    for (int a = 1; a < ACTION_COUNT; a++)
        for (int i = 0; i < KEYS_EACH && k->of[a][i].kind; i++)
            if (same(&k->of[a][i], &c) && contexts_of((enum action)a, &c) & at) return (enum action)a;
    return ACTION_NONE;
}

const char *keys_name(const struct keys *k, enum action a, unsigned at, char buf[KEYS_NAME_MAX])
{
    buf[0] = 0;
    for (int i = 0; i < KEYS_EACH && k->of[a][i].kind; i++)
        if (contexts_of(a, &k->of[a][i]) & at) return keys_chord_name(&k->of[a][i], buf);
    return buf;
}

const char *keys_names(const struct keys *k, enum action a, char buf[KEYS_NAMES_MAX])
{
    char name[KEYS_NAME_MAX];
    int n = 0;

    buf[0] = 0;
    for (int i = 0; i < KEYS_EACH && k->of[a][i].kind; i++)
        n += snprintf(buf + n, KEYS_NAMES_MAX - (size_t)n, "%s%s", i ? " " : "", keys_chord_name(&k->of[a][i], name));
    return buf;
}

/* --- for people ---------------------------------------------------------------- */

/* Blanks until the text has `to` columns. */
static void pad(FILE *f, const char *text, int to)
{
    fprintf(f, "%s%*s", text, to - edit_width(text, strlen(text)), "");
}

/* The text is there only when the stream is closed. */
static char *finish(FILE *f, char **text)
{
    bool ok = !ferror(f);

    if (fclose(f) == 0 && ok) return *text;
    free(*text);
    return NULL;
}

char *keys_text(const struct keys *k)
{
    char *text = NULL, names[KEYS_NAMES_MAX];
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);

    if (!f) return NULL;
    for (int g = 0; keys_groups[g].title; g++) {
        bool titled = false;
        for (int a = 1; a < ACTION_COUNT; a++) {
            if (!actions[a].help || keys_group_of((enum action)a) != g) continue;
            if (!titled) fprintf(f, "%s%s\n", g ? "\n" : "", keys_groups[g].title);
            titled = true;
            fputs("  ", f);
            pad(f, actions[a].name, 18);
            pad(f, *keys_names(k, (enum action)a, names) ? names : "-", 20);
            fprintf(f, " %s\n", actions[a].help);
        }
    }
    fputs("\nWhile typing (these cannot be changed)\n", f);
    for (int i = 0; edit_keys[i][0]; i++) {
        fputs("  ", f);
        pad(f, "", 18);
        pad(f, edit_keys[i][0], 20);
        fprintf(f, " %s\n", edit_keys[i][1]);
    }
    return finish(f, &text);
}

/* Characters that mean something to troff. */
static void troff(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\') fputs("\\e", f);
        else if (*text == '^') fputs("\\(ha", f);
        else if (*text == '-') fputs("\\-", f);
        else fputc(*text, f);
    }
}

static void manual_row(FILE *f, const char *name, const char *keys, const char *help)
{
    fputs("\\&", f); /* a row may begin with a dot, which is a key and not a request */
    troff(f, keys);
    fputc('|', f);
    troff(f, name);
    fputs("|T{\n", f); /* wrapped */
    troff(f, help);
    fputs("\nT}\n", f);
}

static void manual_title(FILE *f, const char *title)
{
    fprintf(f, ".PP\n%s:\n.PP\n.TS\ntab(|);\nlb l lx.\n", title);
}

char *keys_manual(const struct keys *k)
{
    char *text = NULL, names[KEYS_NAMES_MAX];
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);

    if (!f) return NULL;
    fputs(".SS Keys\n.\\\" from here to the end mark: sluice keys --man\n"
          "The second column is the name for\n.IR keys.yaml .\n", f);
    for (int g = 0; keys_groups[g].title; g++) {
        bool titled = false;
        for (int a = 1; a < ACTION_COUNT; a++) {
            if (!actions[a].help || keys_group_of((enum action)a) != g) continue;
            if (!*keys_names(k, (enum action)a, names)) continue;
            if (!titled) manual_title(f, keys_groups[g].title);
            titled = true;
            manual_row(f, actions[a].name, names, actions[a].help);
        }
        if (titled) fputs(".TE\n", f);
    }
    manual_title(f, "While typing");
    for (int i = 0; edit_keys[i][0]; i++) manual_row(f, "", edit_keys[i][0], edit_keys[i][1]);
    fputs(".TE\n.\\\" end mark\n", f);
    return finish(f, &text);
}
