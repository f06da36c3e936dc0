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
ACTION(TROUBLE, "trouble", KEYS_SCREENS, "f8 alt-t", NULL, "What to do", "what can be done about the last failure")
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

/* the prompt */
ACTION(HISTORY_SEARCH, "history.search", KEYS_PROMPT | KEYS_SEARCH, "ctrl-r", NULL, "Older",
       "search prompts used before; again: older")
ACTION(SEARCH_NEWER, "history.search-newer", KEYS_SEARCH, "ctrl-s", NULL, "Newer", "while searching: newer")
ACTION(HISTORY_OLDER, "history.older", KEYS_PROMPT, "alt-p ctrl-p", NULL, NULL, "the prompt used before this one")
ACTION(HISTORY_NEWER, "history.newer", KEYS_PROMPT, "ctrl-n", NULL, NULL, "the one used after it")
ACTION(EDITOR, "editor", KEYS_PROMPT, "alt-e", NULL, NULL, "write it in $VISUAL or $EDITOR")

/* a field of the form */
ACTION(MORE, "field.more", KEYS_FIELD, "right page-up", "right page-up l", NULL, "turn the field up")
ACTION(LESS, "field.less", KEYS_FIELD, "left page-down", "left page-down h", NULL, "turn the field down")

/* whatever has rows */
ACTION(UP, "up", KEYS_FIELD | KEYS_BUTTON | KEYS_FULL | KEYS_HELP | KEYS_SEARCH, "up ctrl-p", "up ctrl-p k", NULL, "up")
ACTION(DOWN, "down", KEYS_FIELD | KEYS_BUTTON | KEYS_FULL | KEYS_HELP | KEYS_SEARCH, "down ctrl-n", "down ctrl-n j",
       NULL, "down")
ACTION(PAGE_UP, "page-up", KEYS_FULL | KEYS_HELP, "page-up", "page-up ctrl-b", NULL, "a screenful up")
ACTION(PAGE_DOWN, "page-down", KEYS_FULL | KEYS_HELP, "page-down", "page-down ctrl-f", NULL, "a screenful down")
ACTION(FIRST, "first", KEYS_FULL | KEYS_HELP, "home", "home g", NULL, "to the first")
ACTION(LAST, "last", KEYS_FULL | KEYS_HELP, "end", "end G", NULL, "to the last")

/* on top of the main screen */
ACTION(OK, "ok", KEYS_DIALOG | KEYS_SEARCH | KEYS_ASK | KEYS_LISTS | KEYS_HELP, "enter", NULL, "OK", "take it")
ACTION(BACK, "back", KEYS_HELP | KEYS_FULL, "esc q", NULL, "Back", "back to the screen below")
ACTION(ABORT, "abort", KEYS_DIALOG | KEYS_SEARCH | KEYS_ASK, "esc ctrl-g ctrl-c", NULL, "Back", "leave it as it is")

/* presets */
ACTION(PRESETS, "presets", KEYS_SCREENS, "f2 alt-o", NULL, NULL, "the presets: what a picture is")
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

/* the picture */
ACTION(PICTURE, "picture", KEYS_MAIN | KEYS_PICTURE, "f6 alt-v", NULL, "Picture",
       "the picture on the whole screen, and back")
ACTION(PICTURE_ACTUAL, "picture.actual", KEYS_PICTURE, "1", NULL, "1:1",
       "a pixel of the picture, a pixel of the screen")
ACTION(PICTURE_FIT, "picture.fit", KEYS_PICTURE, "0 f", NULL, "Fit", "all of it")
ACTION(PICTURE_SIDE, "picture.side", KEYS_PICTURE, "c", NULL, "Compare", "beside the one before, or the one marked")
ACTION(PICTURE_WIPE, "picture.wipe", KEYS_PICTURE, "w", NULL, "Wipe", "a line between the two, moved by Left and Right")
ACTION(PICTURE_FLIP, "picture.flip", KEYS_PICTURE, "space", NULL, "Flip", "the other of the two")
ACTION(PICTURE_MARK, "picture.mark", KEYS_PICTURE, "m", NULL, "Mark", "keep it, to compare others with it")
ACTION(PICTURE_IN, "picture.in", KEYS_PICTURE, "+ =", NULL, "In", "larger")
ACTION(PICTURE_OUT, "picture.out", KEYS_PICTURE, "-", NULL, "Out", "smaller")
ACTION(PICTURE_EARLIER, "picture.earlier", KEYS_PICTURE, ", <", NULL, "Earlier", "the preview of the step before")
ACTION(PICTURE_LATER, "picture.later", KEYS_PICTURE, ". >", NULL, NULL, "the preview of the next step")
ACTION(PICTURE_LEFT, "picture.left", KEYS_PICTURE, "left", "left h", NULL,
       "left; without more picture there: the step before")
ACTION(PICTURE_RIGHT, "picture.right", KEYS_PICTURE, "right", "right l", NULL,
       "right; without more picture there: the next step")
/* profiles: how memory is used */
ACTION(PROFILES, "profiles", KEYS_MAIN | KEYS_PROFILE, "f3 alt-m", NULL, "Memory",
       "profiles: what each switch saves and costs")
ACTION(PROFILE_APPLY, "profile.apply", KEYS_PROFILE, "a", NULL, "Apply",
       "use the profile, as it is now, for the next picture")
ACTION(PROFILE_SIDE, "profile.side", KEYS_PROFILE, "tab", NULL, "Switches",
       "from the profiles to the switches and back")
ACTION(PROFILE_MORE, "profile.more", KEYS_PROFILE, "right", "right l", "Turn", "turn a switch")
ACTION(PROFILE_LESS, "profile.less", KEYS_PROFILE, "left", "left h", NULL, "turn a switch back")
ACTION(PROFILE_RESET, "profile.reset", KEYS_PROFILE, "r", NULL, "Reset",
       "put a switch back as the file has it; in the list: all")
ACTION(PROFILE_SAVE, "profile.save", KEYS_PROFILE, "s", NULL, "Save as", "save it as a profile of your own")
ACTION(PROFILE_COPY, "profile.copy", KEYS_PROFILE, "d", NULL, "Duplicate", "duplicate the file under another name")
ACTION(PROFILE_DELETE, "profile.delete", KEYS_PROFILE, "x delete", NULL, "Delete", "delete a profile of your own")
/* the queue, the contact sheet, the gallery */
ACTION(QUEUE, "queue", KEYS_SCREENS, "f4 alt-q", NULL, NULL, "the queue")
ACTION(GALLERY, "gallery", KEYS_SCREENS, "f5 alt-g", NULL, NULL, "the gallery")
ACTION(SHEET, "sheet", KEYS_MAIN, "alt-k", NULL, NULL, "a contact sheet: many seeds in few steps, to choose from")
ACTION(QUEUE_PAUSE, "queue.pause", KEYS_QUEUE, "p", NULL, "Pause", "pause it at the end of its step; once more: go on")
ACTION(QUEUE_CANCEL, "queue.cancel", KEYS_QUEUE, "x", NULL, "Cancel", "cancel it")
ACTION(QUEUE_EDIT, "queue.edit", KEYS_QUEUE, "e", NULL, "Edit",
       "change it in the form; Enter puts it back in its place")
ACTION(QUEUE_RETRY, "queue.retry", KEYS_QUEUE, "t", NULL, "Try again", "once more, from its last step")
ACTION(QUEUE_REPEAT, "queue.repeat", KEYS_QUEUE, "r", NULL, "Repeat", "the same with new seeds")
ACTION(QUEUE_EARLIER, "queue.earlier", KEYS_QUEUE, "K alt-up", NULL, "Earlier", "one place earlier")
ACTION(QUEUE_LATER, "queue.later", KEYS_QUEUE, "J alt-down", NULL, "Later", "one place later")
ACTION(QUEUE_REMOVE, "queue.remove", KEYS_QUEUE, "d delete", NULL, "Remove", "take it out of the queue")
ACTION(QUEUE_CLEAR, "queue.clear", KEYS_QUEUE, "D", NULL, NULL, "remove all that have ended")
ACTION(MARK, "gallery.mark", KEYS_GALLERY, "space m", NULL, "Mark", "mark it, or not; 0 to 5 rate it")
ACTION(LEFT, "gallery.left", KEYS_GALLERY, "left", "left h", NULL, "left")
ACTION(RIGHT, "gallery.right", KEYS_GALLERY, "right", "right l", NULL, "right")
ACTION(GALLERY_SEARCH, "gallery.search", KEYS_GALLERY, "/", NULL, "Search", "search prompts as you type")
ACTION(GALLERY_LIST, "gallery.list", KEYS_GALLERY, "v tab", NULL, "List", "a list with details, or thumbnails")
ACTION(GALLERY_SETTINGS, "gallery.settings", KEYS_GALLERY, "c", NULL, "Reuse", "its settings and prompt into the form")
ACTION(GALLERY_PROMPT, "gallery.prompt", KEYS_GALLERY, "p", NULL, NULL, "its prompt into the form")
ACTION(GALLERY_SEED, "gallery.seed", KEYS_GALLERY, "s", NULL, NULL, "its seed into the form")
ACTION(GALLERY_RECORD, "gallery.record", KEYS_GALLERY, "i", NULL, "Info", "everything that it was made with")
ACTION(GALLERY_TRASH, "gallery.trash", KEYS_GALLERY, "d delete", NULL, "Trash", "to the trash; in the trash: delete it")
ACTION(GALLERY_UNDO, "gallery.undo", KEYS_GALLERY, "u", NULL, "Undo", "back out of the trash")
ACTION(GALLERY_BIN, "gallery.bin", KEYS_GALLERY, "b", NULL, NULL, "show the trash, or all that is not in it")
ACTION(GALLERY_EXPORT, "gallery.export", KEYS_GALLERY, "e", NULL, "Export", "copy its file to a folder")
ACTION(GALLERY_SCAN, "gallery.scan", KEYS_GALLERY, "S", NULL, NULL, "take in the pictures of a folder")
/* the doctor */
ACTION(DOCTOR, "doctor", KEYS_SCREENS, "f7 alt-i", NULL, NULL,
       "the doctor: this machine, this terminal, and what is wrong with them")
ACTION(DOCTOR_AGAIN, "doctor.again", KEYS_DOCTOR, "r", NULL, "Look again", "look at everything again")
