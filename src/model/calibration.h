/* The built-in text on which import watches a model's activations
 * (calibration.txt; original, and apart from every test text). Sections are
 * separated by "\n\f\n". */
#ifndef MODEL_CALIBRATION_H
#define MODEL_CALIBRATION_H

#include <stddef.h>

extern const char calibration_text[];
size_t calibration_text_length(void);

#endif
