// Design "swar": a range test on 4 packed codes at a time, box after box, codes of the strip in shared memory.
//
// Even and odd bytes are tested as 16-bit lanes: x + (256 - low) carries into bit 8 where x >= low, high + 256 - x where
// x <= high. Rows of a strip: 1,024; a lane takes 4 rows 8 times over, so that a zone of 128 rows is one warp's step.
// boxes (b) {first range, last range + 1}; ranges {dim, (256 - low) * 0x10001, (256 + high) * 0x10001, 0}.

extern "C" __global__ void __launch_bounds__(128)
design(const Tile* __restrict__ tiles, u32 n_tiles, const uint2* __restrict__ boxes, u32 n_boxes,
       const uint4* __restrict__ ranges, u32* __restrict__ out)
{
    extern __shared__ u32 codes[];
    const u32 lane = lane_id(), warp = threadIdx.x >> 5;
    for (u32 strip = blockIdx.x; strip < n_tiles * 4u; strip += gridDim.x) {
        const uint4* from = (const uint4*)(tiles[strip / 4u].codes + strip % 4u * 1024u);
        for (u32 i = threadIdx.x; i < dim * 64u; i += 128u) ((uint4*)codes)[i] = __ldg(from + i / 64u * 256u + i % 64u);
        __syncthreads();
        for (u32 zone = warp; zone < 8u; zone += 4u) {
            u32 hit = 0;
            for (u32 b = 0; b < n_boxes; ++b) {
                const uint2 box = __ldg(boxes + b);
                u32 even = warp_mask, odd = warp_mask;
                #pragma unroll 1
                for (u32 r = box.x; r < box.y; ++r) {
                    const uint4 range = __ldg(ranges + r);
                    const u32 x = codes[range.x * 256u + zone * 32u + lane];
                    const u32 e = x & 0x00ff00ffu, o = x >> 8 & 0x00ff00ffu;
                    even &= (e + range.y) & (range.z - e);
                    odd &= (o + range.y) & (range.z - o);
                }
                hit |= (even >> 8 & 0x00010001u) | (odd & 0x01000100u);
            }
            out[strip * 256u + zone * 32u + lane] = hit;
        }
        __syncthreads();
    }
}
