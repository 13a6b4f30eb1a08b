// nearest: squared L2 distances over the codes, exact in 32 bits, of QUERIES queries to every row.
//
// The twin of sum((codes - query)^2): |x|^2 + |q|^2 - 2 <x, q>, each product by dp4a. A lane takes 16 neighbouring rows,
// four dims at a time, and turns them with byte permutes from dims to rows. Rows with a distance within the border of
// sinks[q] are appended to it, key = distance. The border only has to be valid, so it comes from a sample: with step > 1
// only the groups of 16 rows 0, step, 2 step, .. are looked at, each lane its own.
//
// Constants: D dims, a multiple of 4, at most 1,024; QUERIES; WARPS a block.
// queries (QUERIES, D / 4) 4 codes a word; lengths (QUERIES) |q|^2; allowed: 16 rows a word.
// Grid: any number of blocks of WARPS * 32 threads.

extern "C" __global__ void __launch_bounds__(WARPS * 32)
nearest(const Tile* __restrict__ tiles, u32 n_tiles, u32 step, const u16* __restrict__ allowed,
        const u32* __restrict__ queries, const u32* __restrict__ lengths, Sink* sinks)
{
    const u64 n_groups = ((u64)n_tiles * (TILE / 16u) + step - 1u) / step;
    const u64 stride = (u64)gridDim.x * WARPS * 32u;
    for (u64 base = ((u64)blockIdx.x * WARPS + (threadIdx.x >> 5)) * 32u; base < n_groups; base += stride) {
        const u64 group = (base + lane_id()) * step;
        const u32 rows = base + lane_id() < n_groups ? allowed[group] : 0u;
        if (!__any_sync(ALL, rows)) continue;
        u32 lengths_of_rows[16], dots[QUERIES][16];
        #pragma unroll
        for (int r = 0; r < 16; ++r) {
            lengths_of_rows[r] = 0;
            #pragma unroll
            for (int q = 0; q < QUERIES; ++q) dots[q][r] = 0;
        }
        if (rows) {
            const u8* codes = tiles[group / (TILE / 16u)].codes + group % (TILE / 16u) * 16u;
            #pragma unroll (QUERIES > 1 ? 1 : 2)
            for (u32 dim = 0; dim < D; dim += 4u) {
                u32 x[16];
                load_rows(codes, dim, x);
                #pragma unroll
                for (int r = 0; r < 16; ++r) lengths_of_rows[r] = __dp4a(x[r], x[r], lengths_of_rows[r]);
                #pragma unroll
                for (int q = 0; q < QUERIES; ++q) {
                    const u32 query = __ldg(queries + q * (D / 4) + dim / 4u);
                    #pragma unroll
                    for (int r = 0; r < 16; ++r) dots[q][r] = __dp4a(x[r], query, dots[q][r]);
                }
            }
        }
        #pragma unroll
        for (int q = 0; q < QUERIES; ++q) {
            const u32 length = __ldg(lengths + q);
            u32 keys[16];
            #pragma unroll
            for (int r = 0; r < 16; ++r) keys[r] = lengths_of_rows[r] + length - 2u * dots[q][r];
            put(sinks + q, sinks[q].border, ALL, rows, keys, group * 16u, 1u);
        }
    }
}
