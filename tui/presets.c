/* presets.c - see presets.h. */
#include "tui/presets.h"

#include "engine/image.h"

#include <stdlib.h>

void presets_items_free(struct presets_item *item, int count)
{
    for (int i = 0; i < count; i++) {
        free(item[i].faults);
        preset_free(&item[i].preset);
    }
    free(item);
}

void presets_answer_free(struct presets_answer *a)
{
    presets_items_free(a->item, a->count);
    if (a->import) import_free(a->import);
    free(a->import);
    image_free(a->picture);
    *a = (struct presets_answer){ 0 };
}
