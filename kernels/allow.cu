// allow: bitmaps over positions of the rows that a query may return.
//
// allow_both: out = a & b, 64 rows a word; out may be a or b. allow_rows: sets in `out` the bits of listed positions
// that are set in `live`.
// Grid: any number of blocks of any number of threads.

extern "C" __global__ void __launch_bounds__(256)
allow_both(const u64* a, const u64* b, u64 words, u64* out)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < words; i += (u64)gridDim.x * blockDim.x)
        out[i] = a[i] & b[i];
}

extern "C" __global__ void __launch_bounds__(256)
allow_rows(const u32* __restrict__ positions, u64 n, const u32* __restrict__ live, u32* __restrict__ out)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u32 position = positions[i];
        const u32 bit = live[position / 32u] & 1u << (position % 32u);
        if (bit) atomicOr(out + position / 32u, bit);
    }
}
