// nearest: squared L2 distances over the codes, exact in 32 bits, of n_queries queries to every row.
//
// It computes sum((codes - query)^2) as |x|^2 + |q|^2 - 2 <x, q>, each product by dp4a. A lane processes 16
// neighbouring rows, four dims at a time, and transposes them by byte permutes from dims to rows. Rows with a distance
// within the cutoff of sinks[q] are appended to it, key = distance. Any cutoff is valid that keeps the best rows, so it
// is estimated from a sample: with step > 1 only the groups of 16 rows 0, step, 2 step, .. are read, one by each lane.
//
// Constants: dim, a multiple of 4, at most 1,024; n_queries; warps_per_block.
// queries (n_queries, dim / 4) 4 codes a word; lengths (n_queries) |q|^2; allowed: 16 rows a word.
// Grid: any number of blocks of warps_per_block * 32 threads.

constexpr u32 rows_per_thread = 16, groups_per_tile = tile_rows / rows_per_thread;

extern "C" __global__ void __launch_bounds__(warps_per_block * 32)
nearest(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u16* __restrict__ allowed,
        const u32* __restrict__ queries, const u32* __restrict__ lengths, Sink* sinks)
{
    const u64 n_groups = ((u64)n_tiles * groups_per_tile + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * warps_per_block * 32u;
    for (u64 base = ((u64)blockIdx.x * warps_per_block + (threadIdx.x >> 5)) * 32u; base < n_groups; base += stride) {
        const u64 group = (base + lane_id()) * step;
        const u32 rows = base + lane_id() < n_groups ? allowed[group] : 0u;
        if (!__any_sync(warp_mask, rows)) continue;
        u32 lengths_of_rows[rows_per_thread], dots[n_queries][rows_per_thread];
        #pragma unroll
        for (u32 r = 0; r < rows_per_thread; ++r) {
            lengths_of_rows[r] = 0;
            #pragma unroll
            for (u32 q = 0; q < n_queries; ++q) dots[q][r] = 0;
        }
        if (rows) {
            const Tile* tile = tiles + group / groups_per_tile;
            const u8* codes = tile->codes + group % groups_per_tile * rows_per_thread;
            #pragma unroll (n_queries > 1 ? 1 : 2)
            for (u32 first = 0; first < dim; first += 4u) {
                u32 x[rows_per_thread];
                load_rows(codes, first, x);
                #pragma unroll
                for (u32 r = 0; r < rows_per_thread; ++r) lengths_of_rows[r] = __dp4a(x[r], x[r], lengths_of_rows[r]);
                #pragma unroll
                for (u32 q = 0; q < n_queries; ++q) {
                    const u32 query = __ldg(queries + q * (dim / 4u) + first / 4u);
                    #pragma unroll
                    for (u32 r = 0; r < rows_per_thread; ++r) dots[q][r] = __dp4a(x[r], query, dots[q][r]);
                }
            }
        }
        #pragma unroll
        for (u32 q = 0; q < n_queries; ++q) {
            const u32 length = __ldg(lengths + q);
            u32 keys[rows_per_thread];
            #pragma unroll
            for (u32 r = 0; r < rows_per_thread; ++r) keys[r] = lengths_of_rows[r] + length - 2u * dots[q][r];
            put(sinks + q, sinks[q].cutoff, warp_mask, rows, keys, group * rows_per_thread, 1u);
        }
    }
}
