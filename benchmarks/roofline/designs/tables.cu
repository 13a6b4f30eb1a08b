// Design "tables": for each dim and code a 64-bit word that tells which boxes allow it, in shared memory; a row is in the
// boxes whose bits survive the "and" over all dims, whatever the number of ranges. 32 rows a lane, a dim at a time.
//
// tables (dim, 256) uint64: 2 KiB a dim, 64 KiB for 32 dims and 64 boxes.

extern "C" __global__ void __launch_bounds__(128)
design(const Tile* __restrict__ tiles, u32 n_tiles, const uint2* __restrict__ tables, uint2* __restrict__ out)
{
    extern __shared__ uint2 table[];
    for (u32 i = threadIdx.x; i < dim * 256u; i += 128u) table[i] = __ldg(tables + i);
    __syncthreads();
    const u32 lane = lane_id(), warp = threadIdx.x >> 5;
    for (u32 strip = blockIdx.x * 4u + warp; strip < n_tiles * 8u; strip += gridDim.x * 4u) {
        const u8* codes = tiles[strip / 8u].codes + strip % 8u * 512u + lane * 16u;
        u32 low[16], high[16];
        #pragma unroll
        for (int r = 0; r < 16; ++r) low[r] = high[r] = warp_mask;
        #pragma unroll 1
        for (u32 j = 0; j < dim; ++j) {
            const uint4 x = __ldg((const uint4*)(codes + j * tile_rows));
            const u32 words[4] = {x.x, x.y, x.z, x.w};
            #pragma unroll
            for (int r = 0; r < 16; ++r) {
                const uint2 allowed = table[j * 256u + (words[r / 4] >> 8 * (r % 4) & 255u)];
                low[r] &= allowed.x;
                high[r] &= allowed.y;
            }
        }
        #pragma unroll
        for (int r = 0; r < 16; ++r) out[strip * 512u + lane * 16u + r] = make_uint2(low[r], high[r]);
    }
}
