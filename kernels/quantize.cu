// quantize: float32 vectors to codes in tiles, and the zones of tiles.
//
// quantize computes the same as ScalarQuantizer.encode: floor((x - low) * factor + 1/2) clipped to 0..255, with each
// operation rounded to float32. quantize_zones writes minima and maxima over the rows of each zone; rows beyond n are
// ignored, and a zone without rows gets 255 and 0, which no range overlaps.
//
// Constants: dim.
// vectors (n, dim) float32; low, factors (dim); codes (tiles, dim, tile_rows); zones (tiles, 2, dim, zones_per_tile).
// Grid: any number of blocks of any whole number of warps.

extern "C" __global__ void __launch_bounds__(256)
quantize(const float* __restrict__ vectors, u64 n, const float* __restrict__ low, const float* __restrict__ factors,
         u8* __restrict__ codes)
{
    const u64 padded = (n + tile_rows - 1u) / tile_rows * tile_rows;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < padded; i += (u64)gridDim.x * blockDim.x) {
        u8* column = codes + i / tile_rows * tile_rows * dim + i % tile_rows;
        for (u32 j = 0; j < dim; ++j) {
            float level = 0.0f;
            if (i < n) level = floorf(__fadd_rn(__fmul_rn(__fsub_rn(vectors[i * dim + j], low[j]), factors[j]), 0.5f));
            column[j * tile_rows] = (u8)fminf(fmaxf(level, 0.0f), 255.0f);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
quantize_zones(const u8* __restrict__ codes, u64 n, u8* __restrict__ zones)
{
    const u64 n_tiles = (n + tile_rows - 1u) / tile_rows, warps = (u64)gridDim.x * (blockDim.x >> 5);
    const u64 n_zones = n_tiles * dim * zones_per_tile;
    for (u64 i = (u64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); i < n_zones; i += warps) {
        const u64 tile = i / (dim * zones_per_tile);
        const u32 j = (u32)(i / zones_per_tile % dim), zone = (u32)(i % zones_per_tile);
        const u64 first = tile * tile_rows + zone * (tile_rows / zones_per_tile) + lane_id() * 4u;
        const u8* column = codes + (tile * dim + j) * tile_rows + zone * (tile_rows / zones_per_tile);
        const u32 word = __ldg((const u32*)column + lane_id());
        u32 least = 255u, most = 0u;
        #pragma unroll
        for (u32 k = 0; k < 4u; ++k) {
            const u32 code = word >> 8u * k & 255u;
            if (first + k < n) { least = min(least, code); most = max(most, code); }
        }
        #pragma unroll
        for (int s = 16; s; s >>= 1) {
            least = min(least, __shfl_xor_sync(warp_mask, least, s));
            most = max(most, __shfl_xor_sync(warp_mask, most, s));
        }
        if (lane_id() == 0) {
            u8* own = zones + (tile * 2u * dim + j) * zones_per_tile + zone;
            own[0] = (u8)least;
            own[dim * zones_per_tile] = (u8)most;
        }
    }
}
