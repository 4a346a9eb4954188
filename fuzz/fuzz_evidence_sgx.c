/* SGX quotes and their collateral, from any bytes. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_dcap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dcap("sgx", "{\"type\":\"sgx\",\"isv_prod_id\":7,\"minimum_tcb\":{\"sgx01\":1}}", data, size);
    return 0;
}
