/* theme.h - what the roles of draw.h look like: in 256 colours, in 8, in none.
 *
 * Three themes are built in: dark, light, and mono (bold, dim and reverse only);
 * "auto" is dark or light, as the terminal's ground is. A theme of the user's
 * changes roles of one of them. Pure. */
#ifndef SLUICE_THEME_H
#define SLUICE_THEME_H

#include "tui/draw.h"

enum theme_base { THEME_AUTO, THEME_DARK, THEME_LIGHT, THEME_MONO, THEME_BASES };
extern const char *const theme_base_name[THEME_BASES];
extern const char *const theme_role_name[COLOUR_COUNT]; /* "text", "dim", ..., as theme.yaml spells them */

enum theme_kind { THEME_AS_BASE, THEME_DEFAULT /* the terminal's own */, THEME_INDEX /* 0 to 255 */, THEME_RGB };
struct theme_colour { enum theme_kind kind; uint32_t value; };

/* Zeroed, it is auto. A plain value. */
struct theme {
    enum theme_base base;
    struct theme_colour of[COLOUR_COUNT];
};

bool theme_base_named(enum theme_base *out, const char *name);
/* "default", "red", "bright-red", ..., "grey", 0 to 255, "#rrggbb". False: no colour. */
bool theme_colour_parse(struct theme_colour *c, const char *text);

enum theme_depth { THEME_NO_COLOURS, THEME_8_COLOURS, THEME_256_COLOURS };
struct theme_look { short colour; bool bold, dim; }; /* colour -1: the terminal's own */
/* light: the terminal's ground is. */
struct theme_look theme_look(const struct theme *t, enum theme_depth depth, bool light, enum colour role);

/* The nearest of the 256 colours (16 to 255: those that every terminal has alike), and of the 16 and the 8. */
short theme_nearest_256(uint32_t rgb);
short theme_nearest_16(uint32_t rgb); /* as xterm and most others have them */
short theme_nearest_8(uint32_t rgb);

#endif
