// linear: scores of n_models linear models over the codes, exact integers, for every row.
//
// It computes the same as CodeWeights.scores: sum(w x) with int8 weights and uint8 codes, by signed dp4a over x - 128
// (x ^ 0x80), to which 128 sum(w) is added. The score is that integer as float32. Rows with keys within a model's
// cutoff and max_key are appended to sinks[m], key = score_key(score); `reached` counts those within max_key. Rows,
// lanes and the sample by `step` are as in nearest.
//
// Constants: dim, a multiple of 4, at most 1,024; n_models; warps_per_block.
// weights (n_models, dim / 4) 4 int8 a word; offsets (n_models) 128 sum(w).
// Grid: any number of blocks of warps_per_block * 32 threads.

constexpr u32 rows_per_thread = 16, groups_per_tile = tile_rows / rows_per_thread;

extern "C" __global__ void __launch_bounds__(warps_per_block * 32)
linear(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u16* __restrict__ allowed,
       const int* __restrict__ weights, const int* __restrict__ offsets, Sink* sinks)
{
    const u64 n_groups = ((u64)n_tiles * groups_per_tile + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * warps_per_block * 32u;
    u64 reached[n_models] = {0};
    for (u64 base = ((u64)blockIdx.x * warps_per_block + (threadIdx.x >> 5)) * 32u; base < n_groups; base += stride) {
        const u64 group = (base + lane_id()) * step;
        const u32 rows = base + lane_id() < n_groups ? allowed[group] : 0u;
        if (!__any_sync(warp_mask, rows)) continue;
        int dots[n_models][rows_per_thread];
        #pragma unroll
        for (u32 m = 0; m < n_models; ++m) {
            #pragma unroll
            for (u32 r = 0; r < rows_per_thread; ++r) dots[m][r] = 0;
        }
        if (rows) {
            const Tile* tile = tiles + group / groups_per_tile;
            const u8* codes = tile->codes + group % groups_per_tile * rows_per_thread;
            #pragma unroll (n_models > 1 ? 1 : 2)
            for (u32 first = 0; first < dim; first += 4u) {
                u32 x[rows_per_thread];
                load_rows(codes, first, x);
                #pragma unroll
                for (u32 m = 0; m < n_models; ++m) {
                    const int weight = __ldg(weights + m * (dim / 4u) + first / 4u);
                    #pragma unroll
                    for (u32 r = 0; r < rows_per_thread; ++r)
                        dots[m][r] = __dp4a((int)(x[r] ^ 0x80808080u), weight, dots[m][r]);
                }
            }
        }
        #pragma unroll
        for (u32 m = 0; m < n_models; ++m) {
            const int offset = __ldg(offsets + m);
            u32 keys[rows_per_thread];
            #pragma unroll
            for (u32 r = 0; r < rows_per_thread; ++r) keys[r] = score_key((float)(dots[m][r] + offset));
            reached[m] += put(sinks + m, sinks[m].cutoff, sinks[m].max_key, rows, keys, group * rows_per_thread, 1u);
        }
    }
    #pragma unroll
    for (u32 m = 0; m < n_models; ++m) add_up(&sinks[m].reached, reached[m]);
}
