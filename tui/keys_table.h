/* keys_table.h - the studio's actions, one row each; see keys.h, which includes
 * this as an enum, and keys.c, which includes it as a table.
 *
 * id, name in keys.yaml, contexts, keys (emacs-like), keys (vi-like; NULL: the
 * same), label in the hint bar, help. The order is that of the hint bar (the
 * first survive on a narrow one) and of the help screen. */

/* the main screen */
ACTION(GENERATE, "generate", KEYS_MAIN, "enter", NULL, "Generate", "generate; while one runs, queue another")
ACTION(PUSH, "push", KEYS_BUTTON, "space", NULL, NULL, NULL)
ACTION(CANCEL, "cancel", KEYS_MAIN, "esc", "alt-x", "Cancel", "cancel; once more: give up the partial picture")
ACTION(LEAVE, "prompt.leave", KEYS_PROMPT, "", "esc", NULL, "from the prompt to the button")
ACTION(ENTER, "prompt.enter", KEYS_FIELD | KEYS_BUTTON, "", "i", NULL, "to the prompt")

/* everywhere */
ACTION(HELP, "help", KEYS_SCREENS | KEYS_HELP, "ctrl-g f1 ?", NULL, "Help", "this help (? where letters are no text)")
ACTION(QUIT, "quit", KEYS_ANYWHERE, "ctrl-q", NULL, "Quit", "quit; finished pictures are files already")

ACTION(NEXT, "next", KEYS_MAIN, "tab", NULL, "Next", "next field")
ACTION(PREVIOUS, "previous", KEYS_MAIN, "shift-tab", NULL, NULL, "previous field")
ACTION(EXAMPLE, "example", KEYS_MAIN, "ctrl-t", NULL, "Example", "an example prompt of this model")
ACTION(SEED, "seed", KEYS_MAIN, "alt-s", NULL, "Seed", "keep the last seed, or random again")
ACTION(RESET, "reset", KEYS_MAIN, "alt-r", NULL, "Reset", "as it was loaded; on the button: all settings")
ACTION(NEGATIVE, "negative", KEYS_MAIN, "alt-n", NULL, NULL, "to the negative prompt and back")
ACTION(SAVE, "save", KEYS_MAIN | KEYS_PICTURE, "ctrl-s", NULL, "Save a copy", "save the picture shown")

/* a field of the form */
ACTION(MORE, "field.more", KEYS_FIELD, "right page-up", "right page-up l", NULL, "turn the field up")
ACTION(LESS, "field.less", KEYS_FIELD, "left page-down", "left page-down h", NULL, "turn the field down")

/* whatever has rows */
ACTION(UP, "up", KEYS_FIELD | KEYS_BUTTON | KEYS_FULL | KEYS_HELP, "up ctrl-p", "up ctrl-p k", NULL, "up")
ACTION(DOWN, "down", KEYS_FIELD | KEYS_BUTTON | KEYS_FULL | KEYS_HELP, "down ctrl-n", "down ctrl-n j", NULL, "down")
ACTION(PAGE_UP, "page-up", KEYS_FULL | KEYS_HELP, "page-up", "page-up ctrl-b", NULL, "a screenful up")
ACTION(PAGE_DOWN, "page-down", KEYS_FULL | KEYS_HELP, "page-down", "page-down ctrl-f", NULL, "a screenful down")
ACTION(FIRST, "first", KEYS_FULL | KEYS_HELP, "home", "home g", NULL, "to the first")
ACTION(LAST, "last", KEYS_FULL | KEYS_HELP, "end", "end G", NULL, "to the last")

/* on top of the main screen */
ACTION(OK, "ok", KEYS_DIALOG | KEYS_ASK | KEYS_LISTS | KEYS_HELP, "enter", NULL, "OK", "take it")
ACTION(BACK, "back", KEYS_HELP | KEYS_FULL, "esc q", NULL, "Back", "back to the screen below")
ACTION(ABORT, "abort", KEYS_DIALOG | KEYS_ASK, "esc ctrl-g ctrl-c", NULL, "Back", "leave it as it is")

/* presets */
ACTION(PRESETS, "presets", KEYS_SCREENS, "f3 alt-p", NULL, NULL, "the presets: what a picture is")
ACTION(PRESET_SEARCH, "preset.search", KEYS_PRESETS, "/", NULL, "Search", "search as you type")
ACTION(PRESET_IMPORT, "preset.import", KEYS_PRESETS, "i", NULL, "Import", "from a file; its path can be dropped, too")
ACTION(PRESET_SAVE, "preset.save", KEYS_PRESETS, "s", NULL, "Save as", "the form, or what was looked at, as a preset")
ACTION(PRESET_COPY, "preset.duplicate", KEYS_PRESETS, "c", NULL, "Duplicate", "duplicate it")
ACTION(PRESET_RENAME, "preset.rename", KEYS_PRESETS, "r", NULL, "Rename", "rename one of yours")
ACTION(PRESET_DELETE, "preset.delete", KEYS_PRESETS, "d delete", NULL, "Delete", "delete one of yours, to the trash")
ACTION(PRESET_UNDO, "preset.undo", KEYS_PRESETS, "u", NULL, "Undo", "bring the last deleted one back")
ACTION(PRESET_EXPORT, "preset.export", KEYS_PRESETS, "e", NULL, "Export", "to a file, with the model's hashes")

/* everywhere, and seldom */
ACTION(INTERRUPT, "interrupt", KEYS_SCREENS | KEYS_HELP, "ctrl-c", NULL, NULL, "cancel; twice: quit")
ACTION(REDRAW, "redraw", KEYS_ANYWHERE, "ctrl-l", NULL, NULL, "draw the screen again")
ACTION(MOUSE, "mouse", KEYS_SCREENS, "f9 alt-w", NULL, NULL, "mouse on or off")
ACTION(SUSPEND, "suspend", KEYS_ANYWHERE, "ctrl-z", NULL, NULL, "back to the shell until fg")
