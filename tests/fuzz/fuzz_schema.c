/* fuzz_schema.c - any text is a schema that comes back, or refused. */
#include "storage/schema.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mdn_schema *schema, *again;
    mdn_error err = {.status = MDN_OK};
    char *text, *same;

    if (mdn_schema_parse((const char *)data, size, &schema, &err) != MDN_OK) {
        if (schema != NULL || err.message[0] == '\0')
            abort();
        return 0;
    }
    text = mdn_schema_text(schema);
    if (mdn_schema_parse(text, strlen(text), &again, &err) != MDN_OK)
        abort();
    same = mdn_schema_text(again);
    if (strcmp(text, same) != 0 || again->head_size != schema->head_size
        || schema->head_size == 0 || schema->head_size >> 31 != 0)
        abort();
    free(text);
    free(same);
    mdn_schema_free(schema);
    mdn_schema_free(again);
    return 0;
}
