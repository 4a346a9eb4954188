#include "model/calibration.h"

#include "calibration_sum.h" /* made by the build: compiles this file again when the text changed */

/* The file's bytes as they are; meson gives the path. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".global calibration_text\n"
        "calibration_text:\n"
        ".incbin \"" CALIBRATION_PATH "\"\n"
        ".global calibration_text_end\n"
        "calibration_text_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char calibration_text_end[];

size_t calibration_text_length(void)
{
    return (size_t)(calibration_text_end - calibration_text);
}
