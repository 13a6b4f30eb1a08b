// synthetic: rows of a synthetic catalog, written directly to device memory, for benchmarks larger than a disk.
//
// gpubranches.research.speed.synthetic makes the same rows: every number is a hash of its row, so any row can be made
// anywhere. Runs of 512 rows share one of `clusters` centres, to which noise of four added bytes comes, and signs, of
// which a quarter is turned; the run of a row is taken modulo `period`. clusters = 0 makes uniform codes and signs.
// Every scale is `scale`. Rows first .. first + n - 1, n a multiple of tile_rows. codes (tiles, dim, tile_rows); bits
// (n, words_per_row), zero from sign_words on; scales, ids (n).
//
// Constants: dim; sign_words, 32-bit words of signs a row; words_per_row with what pads them to whole 16 bytes.
// Grid: any number of blocks of any number of threads.

__device__ __forceinline__ u64 drawn(u64 stream, u64 x) { return splitmix64(stream << 48 ^ x); }

extern "C" __global__ void __launch_bounds__(256)
synthetic_codes(u64 first, u64 n, u32 clusters, u32 period, u8* __restrict__ codes)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n * dim; i += (u64)gridDim.x * blockDim.x) {
        const u64 tile = i / (tile_rows * dim);
        const u32 j = (u32)(i / tile_rows % dim);
        const u64 row = first + tile * tile_rows + i % tile_rows;
        const u64 hash = drawn(3, row * dim + j);
        int code = (int)(hash & 255u);
        if (clusters) {
            const u64 cluster = drawn(1, row / 512u % period) % clusters;
            const int noise = (int)(((hash & 255u) + (hash >> 8 & 255u) + (hash >> 16 & 255u) + (hash >> 24 & 255u)) >> 3);
            code = 40 + (int)(drawn(2, cluster * 1024u + j) % 176u) + noise - 63;
        }
        codes[i] = (u8)min(max(code, 0), 255);
    }
}

extern "C" __global__ void __launch_bounds__(256)
synthetic_bits(u64 first, u64 n, u32 clusters, u32 period, u32 scale, u32* __restrict__ bits,
               u16* __restrict__ scales, u32* __restrict__ ids)
{
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        const u64 row = first + i, cluster = clusters ? drawn(1, row / 512u % period) % clusters : 0u;
        for (u32 w = 0; w < words_per_row; ++w) {
            const u64 hash = drawn(5, row * sign_words + w);
            const u32 turned = (u32)hash & (u32)(hash >> 32);
            const u32 signs = clusters ? (u32)drawn(4, cluster * sign_words + w) ^ turned : (u32)hash;
            bits[i * words_per_row + w] = w < sign_words ? signs : 0u;
        }
        if (words_per_row) scales[i] = (u16)scale;
        ids[i] = (u32)i;
    }
}
