/* TDX quotes and their collateral, from any bytes. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_dcap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dcap("tdx", "{\"type\":\"tdx\",\"minimum_tcb\":{\"tdx01\":1},\"allow_smt\":false}", data, size);
    return 0;
}
