// linear: scores of MODELS linear models over the codes, exact integers, for every row.
//
// The twin of CodeWeights.scores: sum(w x) with int8 weights and uint8 codes, by signed dp4a over x - 128 (x ^ 0x80), to
// which 128 sum(w) is added; the score is that integer as float32. Rows that reach a model's border and floor are
// appended to sinks[m], key = score_key(score); `reached` counts those that reach the floor. Rows, lanes and the sample
// by `step` are as in nearest.
//
// Constants: D dims, a multiple of 4, at most 1,024; MODELS; WARPS a block.
// weights (MODELS, D / 4) 4 int8 a word; offsets (MODELS) 128 sum(w).
// Grid: any number of blocks of WARPS * 32 threads.

extern "C" __global__ void __launch_bounds__(WARPS * 32)
linear(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u16* __restrict__ allowed,
       const int* __restrict__ weights, const int* __restrict__ offsets, Sink* sinks)
{
    const u64 n_groups = ((u64)n_tiles * (TILE / 16u) + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * WARPS * 32u;
    u64 reached[MODELS] = {0};
    for (u64 base = ((u64)blockIdx.x * WARPS + (threadIdx.x >> 5)) * 32u; base < n_groups; base += stride) {
        const u64 group = (base + lane_id()) * step;
        const u32 rows = base + lane_id() < n_groups ? allowed[group] : 0u;
        if (!__any_sync(ALL, rows)) continue;
        int dots[MODELS][16];
        #pragma unroll
        for (int m = 0; m < MODELS; ++m) {
            #pragma unroll
            for (int r = 0; r < 16; ++r) dots[m][r] = 0;
        }
        if (rows) {
            const u8* codes = tiles[group / (TILE / 16u)].codes + group % (TILE / 16u) * 16u;
            #pragma unroll (MODELS > 1 ? 1 : 2)
            for (u32 dim = 0; dim < D; dim += 4u) {
                u32 x[16];
                load_rows(codes, dim, x);
                #pragma unroll
                for (int m = 0; m < MODELS; ++m) {
                    const int weight = __ldg(weights + m * (D / 4) + dim / 4u);
                    #pragma unroll
                    for (int r = 0; r < 16; ++r) dots[m][r] = __dp4a((int)(x[r] ^ 0x80808080u), weight, dots[m][r]);
                }
            }
        }
        #pragma unroll
        for (int m = 0; m < MODELS; ++m) {
            const int offset = __ldg(offsets + m);
            u32 keys[16];
            #pragma unroll
            for (int r = 0; r < 16; ++r) keys[r] = score_key((float)(dots[m][r] + offset));
            reached[m] += put(sinks + m, sinks[m].border, sinks[m].floor, rows, keys, group * 16u, 1u);
        }
    }
    #pragma unroll
    for (int m = 0; m < MODELS; ++m) add_up(&sinks[m].reached, reached[m]);
}
