#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "bulla/model.h"
#include "model/program_names.h"

static void write_name(struct buffer *out, const char *name)
{
    json_write_string(out, name, strlen(name));
}

static void write_integer(struct buffer *out, const char *name, int64_t value)
{
    buffer_append_format(out, ",\"%s\":%lld", name, (long long)value);
}

static void write_result(struct buffer *out, const bulla_operation *o, enum program_value result)
{
    static const char *const types[] = {"", "i32", "(q i8, s i64)", "(q8 i8, s_q i32 a head)", "(k8 i8, t_k i32 a head)",
                                        "(v8 i8, k_v i32 a head)"};
    if (result == VALUE_VECTOR || result == VALUE_QUANTISED)
        buffer_append_format(out, ",\"shape\":[%u]", o->outputs);
    else
        buffer_append_format(out, ",\"shape\":[%u,%u]", o->heads, o->head_size);
    buffer_append_text(out, ",\"dtype\":");
    write_name(out, types[result]);
    write_integer(out, "F", o->F);
}

static void write_parameters(struct buffer *out, const bulla_operation *o, uint32_t with)
{
    const struct {
        uint32_t parameter;
        const char *name;
        int64_t value;
    } list[] = {
        {PARAMETER_HEADS, "heads", o->heads},    {PARAMETER_HEADS, "head_size", o->head_size},
        {PARAMETER_KV_HEADS, "kv_heads", o->kv_heads}, {PARAMETER_BLOCK, "b", o->block},
        {PARAMETER_EPS, "eps", (int64_t)o->eps}, {PARAMETER_C_SHIFT, "c", o->c},
        {PARAMETER_K, "k", o->k},                {PARAMETER_K1, "k1", o->k1},
        {PARAMETER_K2, "k2", o->k2},             {PARAMETER_KE, "ke", o->ke},
        {PARAMETER_C, "C", o->C},                {PARAMETER_A2, "a2", o->a2},
        {PARAMETER_ROTARY, "rotary", o->rotary}, {PARAMETER_F_G, "F_g", o->F_g},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (with & list[i].parameter)
            write_integer(out, list[i].name, list[i].value);
    if ((with & PARAMETER_WINDOW) && o->window)
        write_integer(out, "window", o->window);
    else if (with & PARAMETER_WINDOW)
        buffer_append_text(out, ",\"window\":null");
    if (o->kind == BULLA_ROPE)
        buffer_append_format(out, ",\"half\":%s", o->flags & BULLA_OPERATION_HALF ? "true" : "false");
    if (o->kind == BULLA_GATE)
        buffer_append_format(out, ",\"gated\":%s", o->flags & BULLA_OPERATION_GATED ? "true" : "false");
}

static void write_operation(struct buffer *out, const bulla_program *program, uint32_t index)
{
    const bulla_operation *o = &program->operations[index];
    const struct program_kind *kind = program_kind(o->kind);
    buffer_append_format(out, "{\"index\":%u,\"kind\":\"%s\",\"layer\":", index, kind->name);
    if (o->layer == BULLA_NO_LAYER)
        buffer_append_text(out, "null");
    else
        buffer_append_format(out, "%u", o->layer);
    buffer_append_text(out, ",\"inputs\":[");
    for (int i = 0; i < 3 && o->inputs[i] >= 0; i++)
        buffer_append_format(out, "%s%d", i ? "," : "", o->inputs[i]);
    buffer_append_format(out, "],\"outputs\":[%u]", index);
    write_result(out, o, kind->result);
    write_parameters(out, o, kind->parameters);
    buffer_append_text(out, ",\"tensors\":{");
    const char *comma = "";
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
        if (o->tensors[role] >= 0) {
            buffer_append_format(out, "%s\"%s\":", comma, bulla_tensor_role_name(role));
            write_name(out, program->tensors[o->tensors[role]].name);
            comma = ",";
        }
    buffer_append_text(out, "}}");
}

int bulla_model_program_json(const bulla_model *model, char **text, size_t *length, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(model);
    struct buffer out = {0};
    char root[65];
    hex_encode(bulla_model_root(model), 32, root);
    buffer_append_format(&out, "{\"version\":%d,\"model_root\":\"%s\",\"vocabulary\":%u,\"context\":%u,\"layers\":%u,"
                         "\"logits_F\":%d,\n\"operations\":[", BULLA_PROGRAM_VERSION, root, program->vocabulary,
                         program->context, program->layers, program->logits_F);
    for (uint32_t i = 0; i < program->operation_count; i++) {
        buffer_append_text(&out, i ? ",\n" : "\n");
        write_operation(&out, program, i);
    }
    buffer_append_text(&out, "],\n\"tensors\":[");
    for (uint32_t i = 0; i < program->tensor_count; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        buffer_append_text(&out, i ? ",\n{\"name\":" : "\n{\"name\":");
        write_name(&out, tensor->name);
        buffer_append_format(&out, ",\"dtype\":\"%s\",\"shape\":[%u,%u],\"bytes\":%llu}", bulla_dtype_name(tensor->dtype),
                             tensor->rows, tensor->columns, (unsigned long long)tensor->bytes);
    }
    buffer_append_text(&out, "]}\n");
    if (out.error.code) {
        int code = bulla_fail(error, out.error.code, "%s", out.error.text);
        buffer_free(&out);
        return code;
    }
    *text = (char *)out.data; /* handed over; bulla_text_free releases it */
    *length = out.length;
    return BULLA_OK;
}
