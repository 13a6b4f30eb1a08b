// rescore: scores of the float16 embeddings of listed rows, in float32.
//
// LISTED: row i is the one at positions[i], its embedding row i of `staged` with STAGED (embeddings that do not live on
// the device), else the resident one. Not LISTED: rows 0, step, 2 step, ... Either way only rows of `allowed`. The score
// is <x - mean, weights>, divided by |x - mean| with COSINE. A warp takes a row. Rows that reach border and floor are appended to the sink, key = score_key(score).
// The twin is NumPy's (x - mean) @ weights, within 1e-5: sums are taken in another order.
//
// Constants: WIDTH D of the embeddings; COSINE, LISTED, STAGED 0 or 1; WARPS a block. Pointers that are not used are null.
// Grid: any number of blocks of WARPS * 32 threads.

extern "C" __global__ void __launch_bounds__(WARPS * 32)
rescore(const Tile* __restrict__ tiles, const u8* __restrict__ allowed, const u32* __restrict__ positions,
        const u16* __restrict__ staged, u64 n, u32 step, const float* __restrict__ mean,
        const float* __restrict__ weights, Sink* sink)
{
    const u32 border = sink->border, floor = sink->floor;
    u64 reached = 0;
    for (u64 i = (u64)blockIdx.x * WARPS + (threadIdx.x >> 5); i < n; i += (u64)gridDim.x * WARPS) {
        const u32 position = LISTED ? positions[i] : (u32)(i * step);
        if (!(allowed[position / 8u] >> (position % 8u) & 1u)) continue;
        const u16* row = STAGED ? staged + i * WIDTH
                                : tiles[position / TILE].embeddings + (u64)(position % TILE) * WIDTH;
        float dot = 0.0f, squared = 0.0f;
        for (u32 j = lane_id(); j < WIDTH; j += 32u) {
            const float x = half_to_float(__ldg(row + j)) - __ldg(mean + j);
            dot += x * __ldg(weights + j);
            squared += x * x;
        }
        #pragma unroll
        for (int s = 16; s; s >>= 1) {
            dot += __shfl_xor_sync(ALL, dot, s);
            squared += __shfl_xor_sync(ALL, squared, s);
        }
        const float score = COSINE ? dot / fmaxf(sqrtf(squared), 1e-12f) : dot;
        const u32 keys[1] = {score_key(score)};
        reached += put(sink, border, floor, lane_id() == 0, keys, position, 0u);
    }
    add_up(&sink->reached, reached);
}
