// bits: scores of many linear models over the sign bits, exact integer dots times one float32 scale a row.
//
// The twin of WeightPlanes.scores. With weights 2u - 15 and planes p_j of u, dot = 15 n_bits - 2 sum_j 2^j popc(b ^ p_j):
// the exclusive or needs no count of the bits themselves. Of every four words three go through a full adder first, since
// POPC issues at a quarter of the rate of logic. LANES lanes share a row, each CHUNKS pieces of 16 bytes of it, so that a
// warp reads whole lines; words beyond n_bits are zero in rows and planes alike. Answers as in linear; with step > 1 only
// the rows 0, step, 2 step, .. are looked at.
//
// Constants: BITS_WORDS words a row, a multiple of 4; LANES a power of 2; CHUNKS; LANES * CHUNKS * 4 >= BITS_WORDS;
// HELD rows a lane holds at once; MOST_MODELS; WARPS a block.
// planes (n_models, 4, BITS_WORDS); peaks (n_models) 15 n_bits.
// Grid: any number of blocks of WARPS * 32 threads.

#define GROUPS (32u / LANES)

// Bits that differ, of 128, from one plane.
__device__ __forceinline__ u32 differing(const uint4 b, const uint4 p)
{
    const u32 x = b.x ^ p.x, y = b.y ^ p.y, z = b.z ^ p.z;
    return (u32)__popc(x ^ y ^ z) + 2u * (u32)__popc((x & y) | (z & (x | y))) + (u32)__popc(b.w ^ p.w);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
bits(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u8* __restrict__ allowed,
     const uint4* __restrict__ planes, const int* __restrict__ peaks, u32 n_models, Sink* sinks)
{
    __shared__ u32 every_reached[WARPS][MOST_MODELS][32];
    u32* reached = every_reached[threadIdx.x >> 5][0] + lane_id();
    for (u32 m = 0; m < n_models; ++m) reached[m * 32u] = 0;
    const u32 own = lane_id() % LANES, place = lane_id() / LANES;
    const u64 n_rows = ((u64)n_tiles * TILE + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * WARPS * GROUPS * HELD;
    for (u64 base = ((u64)blockIdx.x * WARPS + (threadIdx.x >> 5)) * GROUPS * HELD; base < n_rows; base += stride) {
        u32 counts = 0;
        uint4 b[HELD][CHUNKS];
        float scale[HELD];
        #pragma unroll
        for (u32 h = 0; h < (u32)HELD; ++h) {
            const u64 at = base + h * GROUPS + place;
            const u64 position = at * step;
            const bool counted = at < n_rows && allowed[position / 8u] >> (position % 8u) & 1u;
            counts |= (u32)counted << h;
            scale[h] = 0.0f;
            #pragma unroll
            for (u32 c = 0; c < CHUNKS; ++c) b[h][c] = make_uint4(0, 0, 0, 0);
            if (counted) {
                const Tile* tile = tiles + position / TILE;
                const uint4* row = (const uint4*)(tile->bits + position % TILE * BITS_WORDS);
                #pragma unroll
                for (u32 c = 0; c < CHUNKS; ++c)
                    if (c * LANES + own < BITS_WORDS / 4u) b[h][c] = __ldg(row + c * LANES + own);
                scale[h] = half_to_float(__ldg(tile->scales + position % TILE));
            }
        }
        if (!__any_sync(ALL, counts)) continue;
        if (own) counts = 0;
        for (u32 m = 0; m < n_models; ++m) {
            u32 sums[HELD];
            #pragma unroll
            for (u32 h = 0; h < (u32)HELD; ++h) sums[h] = 0;
            #pragma unroll
            for (u32 c = 0; c < CHUNKS; ++c) {
                if (c * LANES + own < BITS_WORDS / 4u) {
                    #pragma unroll
                    for (u32 j = 0; j < 4u; ++j) {
                        const uint4 plane = __ldg(planes + ((u64)m * 4u + j) * (BITS_WORDS / 4u) + c * LANES + own);
                        #pragma unroll
                        for (u32 h = 0; h < (u32)HELD; ++h) sums[h] += differing(b[h][c], plane) << j;
                    }
                }
            }
            const int peak = __ldg(peaks + m);
            u32 keys[HELD];
            #pragma unroll
            for (u32 h = 0; h < (u32)HELD; ++h) {
                #pragma unroll
                for (u32 s = 1; s < LANES; s <<= 1) sums[h] += __shfl_xor_sync(ALL, sums[h], s);
                keys[h] = score_key((float)(peak - 2 * (int)sums[h]) * scale[h]);
            }
            const u64 first = (base + place) * step;
            reached[m * 32u] += put(sinks + m, sinks[m].border, sinks[m].floor, counts, keys, first, GROUPS * step);
        }
    }
    for (u32 m = 0; m < n_models; ++m) add_up(&sinks[m].reached, reached[m * 32u]);
}
