// bits: scores of many linear models over the sign bits, exact integer dots times one float32 scale a row.
//
// It computes the same as WeightPlanes.scores. With weights 2u - 15 and planes p_j of u, dot = 15 n_bits - 2 sum_j 2^j
// popc(b ^ p_j); the exclusive or needs no count of the row's own bits. Of every four words three go through a full
// adder first, because POPC has a quarter of the throughput of logic. lanes_per_row lanes share a row, each with
// loads_per_lane pieces of 16 bytes, so that a warp reads whole cache lines. Words beyond n_bits are zero in rows and
// planes. Answers are as in linear. With step > 1 only the rows 0, step, 2 step, .. are read.
//
// Constants: words_per_row, 32-bit words, a multiple of 4; lanes_per_row, a power of 2; loads_per_lane, with
// lanes_per_row * loads_per_lane * 4 >= words_per_row; rows_per_thread, how many rows a lane works on at once;
// warps_per_block.
// planes (n_models, 4, words_per_row); peaks (n_models) 15 n_bits.
// Shared memory: warps_per_block * n_models * 128 bytes, how many rows of each lane have a key within a model's max_key.
// Grid: any number of blocks of warps_per_block * 32 threads.

constexpr u32 rows_per_warp = 32 / lanes_per_row;

// Number of bits, of 128, that differ from one plane.
__device__ __forceinline__ u32 differing(const uint4 b, const uint4 p)
{
    const u32 x = b.x ^ p.x, y = b.y ^ p.y, z = b.z ^ p.z;
    return (u32)__popc(x ^ y ^ z) + 2u * (u32)__popc((x & y) | (z & (x | y))) + (u32)__popc(b.w ^ p.w);
}

extern "C" __global__ void __launch_bounds__(warps_per_block * 32)
bits(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u8* __restrict__ allowed,
     const uint4* __restrict__ planes, const int* __restrict__ peaks, u32 n_models, Sink* sinks)
{
    extern __shared__ u32 reached_by_warp[];
    u32* reached = reached_by_warp + (threadIdx.x >> 5) * n_models * 32u + lane_id();
    for (u32 m = 0; m < n_models; ++m) reached[m * 32u] = 0;
    const u32 own = lane_id() % lanes_per_row, place = lane_id() / lanes_per_row;
    const u64 n_rows = ((u64)n_tiles * tile_rows + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * warps_per_block * rows_per_warp * rows_per_thread;
    u64 base = ((u64)blockIdx.x * warps_per_block + (threadIdx.x >> 5)) * rows_per_warp * rows_per_thread;
    for (; base < n_rows; base += stride) {
        u32 counts = 0;
        uint4 b[rows_per_thread][loads_per_lane];
        float scale[rows_per_thread];
        #pragma unroll
        for (u32 h = 0; h < rows_per_thread; ++h) {
            const u64 at = base + h * rows_per_warp + place;
            const u64 position = at * step;
            const bool counted = at < n_rows && allowed[position / 8u] >> (position % 8u) & 1u;
            counts |= (u32)counted << h;
            scale[h] = 0.0f;
            #pragma unroll
            for (u32 c = 0; c < loads_per_lane; ++c) b[h][c] = make_uint4(0, 0, 0, 0);
            if (counted) {
                const Tile* tile = tiles + position / tile_rows;
                const uint4* row = (const uint4*)(tile->bits + position % tile_rows * words_per_row);
                #pragma unroll
                for (u32 c = 0; c < loads_per_lane; ++c)
                    if (c * lanes_per_row + own < words_per_row / 4u) b[h][c] = __ldg(row + c * lanes_per_row + own);
                scale[h] = __half2float(__ldg(tile->scales + position % tile_rows));
            }
        }
        if (!__any_sync(warp_mask, counts)) continue;
        if (own) counts = 0;
        for (u32 m = 0; m < n_models; ++m) {
            u32 sums[rows_per_thread];
            #pragma unroll
            for (u32 h = 0; h < rows_per_thread; ++h) sums[h] = 0;
            #pragma unroll
            for (u32 c = 0; c < loads_per_lane; ++c) {
                if (c * lanes_per_row + own < words_per_row / 4u) {
                    #pragma unroll
                    for (u32 j = 0; j < 4u; ++j) {
                        const u64 row = (u64)m * 4u + j;
                        const uint4 plane = __ldg(planes + row * (words_per_row / 4u) + c * lanes_per_row + own);
                        #pragma unroll
                        for (u32 h = 0; h < rows_per_thread; ++h) sums[h] += differing(b[h][c], plane) << j;
                    }
                }
            }
            const int peak = __ldg(peaks + m);
            u32 keys[rows_per_thread];
            #pragma unroll
            for (u32 h = 0; h < rows_per_thread; ++h) {
                #pragma unroll
                for (u32 s = 1; s < lanes_per_row; s <<= 1) sums[h] += __shfl_xor_sync(warp_mask, sums[h], s);
                keys[h] = score_key((float)(peak - 2 * (int)sums[h]) * scale[h]);
            }
            const u64 first = (base + place) * step;
            reached[m * 32u] += put(sinks + m, sinks[m].cutoff, sinks[m].max_key, counts, keys, first, rows_per_warp * step);
        }
    }
    for (u32 m = 0; m < n_models; ++m) add_up(&sinks[m].reached, reached[m * 32u]);
}
