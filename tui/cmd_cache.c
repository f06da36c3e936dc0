/* cmd_cache.c - `sluice cache`: what is kept of encoded prompts, and `sluice
 * cache clear`, which removes it. */
#include "engine/cache.h"
#include "engine/embeddings.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <string.h>

static const char help[] =
    "usage: sluice cache          how much is kept of encoded prompts, and where\n"
    "       sluice cache clear    removes it\n"
    "\n"
    "A prompt that was encoded before needs no text encoder again. At most 1 GiB is\n"
    "kept (SLUICE_CACHE_BYTES sets another limit, 0: nothing); what was not used for\n"
    "longest goes first.\n";

const char *const cmd_cache_verbs[] = { "clear", NULL };

int cmd_cache(int argc, char **argv)
{
    struct err e = { 0 };
    struct embeddings_use use = { 0 };
    char folder[FILE_PATH_MAX], bytes[CMD_BYTES_MAX];
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "-h") || !strcmp(what, "--help")) {
        fputs(help, stdout);
        return 0;
    }
    bool clear = !strcmp(what, "clear");
    if (argc > 2 || (*what && !clear))
        return cmd_usage("cache", "%s: only clear is known", argv[argc - 1]);
    if (!cache_path(folder, "embeddings", &e) || !(clear ? embeddings_clear(&use, &e) : embeddings_use(&use, &e)))
        return cmd_fail(&e);
    printf("%s%zu %s, %s, in ", clear ? "removed " : "", use.entries, use.entries == 1 ? "prompt" : "prompts",
           cmd_bytes(use.bytes, bytes));
    cmd_print(stdout, folder);
    putchar('\n');
    return 0;
}
