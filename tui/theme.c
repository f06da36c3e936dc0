/* theme.c - see theme.h. */
#include "tui/theme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const theme_base_name[THEME_BASES] = { "auto", "dark", "light", "mono" };
const char *const theme_role_name[COLOUR_COUNT] = { "text", "dim", "border", "accent", "good",
                                                    "warn", "bad", "bar", "bar-also", "track" };

enum { BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE };

/* On a dark and a light ground, and in the user's own 8. Text is always the terminal's own. */
static const short dark[COLOUR_COUNT] = { -1, 246, 240, 110, 114, 179, 203, 110, 60, 238 };
static const short light_ground[COLOUR_COUNT] = { -1, 242, 249, 25, 28, 130, 160, 67, 146, 252 };
static const struct theme_look in_8[COLOUR_COUNT] = {
    { -1, false, false }, { -1, false, true }, { -1, false, true }, { CYAN, false, false }, { GREEN, false, false },
    { YELLOW, false, false }, { RED, true, false }, { CYAN, false, false }, { BLUE, false, false }, { -1, false, true },
};
static const struct theme_look in_none[COLOUR_COUNT] = {
    { -1, false, false }, { -1, false, true }, { -1, false, false }, { -1, true, false }, { -1, true, false },
    { -1, true, false }, { -1, true, false }, { -1, false, false }, { -1, false, false }, { -1, false, true },
};

bool theme_base_named(enum theme_base *out, const char *name)
{
    for (int i = 0; i < THEME_BASES; i++)
        if (!strcmp(name, theme_base_name[i])) {
            *out = (enum theme_base)i;
            return true;
        }
    return false;
}

bool theme_colour_parse(struct theme_colour *c, const char *text)
{
    static const char *const names[] = { "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white" };
    int bright = strncasecmp(text, "bright-", 7) ? 0 : 8;
    char *end;

    *c = (struct theme_colour){ .kind = THEME_INDEX };
    for (unsigned i = 0; i < 8; i++)
        if (!strcasecmp(text + (bright ? 7 : 0), names[i])) {
            c->value = i + (unsigned)bright;
            return true;
        }
    if (!strcasecmp(text, "grey") || !strcasecmp(text, "gray")) {
        c->value = 8;
        return true;
    }
    if (!strcasecmp(text, "default")) {
        c->kind = THEME_DEFAULT;
        return true;
    }
    if (text[0] == '#') {
        if (strlen(text) != 7 || text[1 + strspn(text + 1, "0123456789abcdefABCDEF")]) return false;
        *c = (struct theme_colour){ THEME_RGB, (uint32_t)strtoul(text + 1, NULL, 16) };
        return true;
    }
    c->value = (uint32_t)strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && strlen(text) <= 3 && c->value <= 255;
}

short theme_nearest_256(uint32_t rgb)
{
    static const int level[6] = { 0, 95, 135, 175, 215, 255 };
    int v[3] = { (int)(rgb >> 16), (int)(rgb >> 8 & 255), (int)(rgb & 255) }, i[3], cube = 0, grey_off = 0;
    int mean = (v[0] + v[1] + v[2]) / 3, g = mean < 4 ? 0 : mean > 242 ? 23 : (mean - 3) / 10;

    for (int k = 0; k < 3; k++) {
        i[k] = v[k] < 48 ? 0 : v[k] < 115 ? 1 : (v[k] - 35) / 40;
        cube += (v[k] - level[i[k]]) * (v[k] - level[i[k]]);
        grey_off += (v[k] - (8 + 10 * g)) * (v[k] - (8 + 10 * g));
    }
    return (short)(grey_off < cube ? 232 + g : 16 + 36 * i[0] + 6 * i[1] + i[2]);
}

short theme_nearest_16(uint32_t rgb)
{
    static const uint32_t usual[16] = { 0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd, 0x00cdcd, 0xe5e5e5,
                                        0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00, 0x5c5cff, 0xff00ff, 0x00ffff,
                                        0xffffff };
    int best = 0, least = 0;

    for (int i = 0; i < 16; i++) {
        int off = 0;
        for (int s = 0; s <= 16; s += 8) {
            int d = (int)(rgb >> s & 255) - (int)(usual[i] >> s & 255);
            off += d * d;
        }
        if (!i || off < least) best = i, least = off;
    }
    return (short)best;
}

short theme_nearest_8(uint32_t rgb)
{
    return (short)((rgb >> 23 & 1) | (rgb >> 15 & 1) << 1 | (rgb >> 7 & 1) << 2);
}

/* Of 16 to 255, as every terminal has them. */
static uint32_t rgb_of(uint32_t index)
{
    static const uint32_t level[6] = { 0, 95, 135, 175, 215, 255 };
    uint32_t grey = 8 + 10 * (index - 232), cube = index - 16;

    if (index >= 232) return grey << 16 | grey << 8 | grey;
    return level[cube / 36] << 16 | level[cube / 6 % 6] << 8 | level[cube % 6];
}

/* What the user has chosen for a role. */
static struct theme_look own(struct theme_colour c, enum theme_depth depth)
{
    struct theme_look look = { .colour = -1 };

    if (c.kind == THEME_DEFAULT) return look;
    if (depth == THEME_256_COLOURS) {
        look.colour = c.kind == THEME_RGB ? theme_nearest_256(c.value) : (short)c.value;
    } else if (c.kind == THEME_INDEX && c.value < 16) {
        look.colour = (short)(c.value & 7);
        look.bold = c.value >= 8;
    } else {
        look.colour = theme_nearest_8(c.kind == THEME_RGB ? c.value : rgb_of(c.value));
    }
    return look;
}

struct theme_look theme_look(const struct theme *t, enum theme_depth depth, bool light, enum colour role)
{
    if (depth == THEME_NO_COLOURS || t->base == THEME_MONO) return in_none[role];
    if (t->of[role].kind != THEME_AS_BASE) return own(t->of[role], depth);
    if (depth == THEME_8_COLOURS) return in_8[role];
    if (t->base != THEME_AUTO) light = t->base == THEME_LIGHT;
    return (struct theme_look){ .colour = (light ? light_ground : dark)[role] };
}
