// Design "subsets": the boxes of an estimator share 5 dims, whose codes stay in registers, 16 rows a lane, while all its
// boxes are tested on 4 packed codes at a time, as in "swar". Boxes that choose their dims one by one do not fit it.
//
// estimators (e) {first box, last box + 1, first of its 5 dims, 0}; boxes (b, 5) {(256 - low) * 0x10001, (256 + high) * ..}.

extern "C" __global__ void __launch_bounds__(128)
design(const Tile* __restrict__ tiles, u32 n_tiles, const uint4* __restrict__ estimators, u32 n_estimators,
       const u32* __restrict__ dims, const uint2* __restrict__ boxes, u32* __restrict__ out)
{
    const u32 lane = lane_id(), warp = threadIdx.x >> 5;
    for (u32 strip = blockIdx.x * 4u + warp; strip < n_tiles * 8u; strip += gridDim.x * 4u) {
        const u8* codes = tiles[strip / 8u].codes + strip % 8u * 512u + lane * 16u;
        u32 votes[4] = {0, 0, 0, 0};
        for (u32 e = 0; e < n_estimators; ++e) {
            const uint4 estimator = __ldg(estimators + e);
            u32 even[5][4], odd[5][4], hit[4] = {0, 0, 0, 0};
            #pragma unroll
            for (int f = 0; f < 5; ++f) {
                const uint4 x = __ldg((const uint4*)(codes + __ldg(dims + estimator.z + f) * tile_rows));
                const u32 words[4] = {x.x, x.y, x.z, x.w};
                #pragma unroll
                for (int w = 0; w < 4; ++w) { even[f][w] = words[w] & 0x00ff00ffu; odd[f][w] = words[w] >> 8 & 0x00ff00ffu; }
            }
            #pragma unroll 1
            for (u32 b = estimator.x; b < estimator.y; ++b) {
                u32 inside[4] = {warp_mask, warp_mask, warp_mask, warp_mask}, other[4] = {warp_mask, warp_mask, warp_mask, warp_mask};
                #pragma unroll
                for (int f = 0; f < 5; ++f) {
                    const uint2 range = __ldg(boxes + b * 5u + f);
                    #pragma unroll
                    for (int w = 0; w < 4; ++w) {
                        inside[w] &= (even[f][w] + range.x) & (range.y - even[f][w]);
                        other[w] &= (odd[f][w] + range.x) & (range.y - odd[f][w]);
                    }
                }
                #pragma unroll
                for (int w = 0; w < 4; ++w) hit[w] |= (inside[w] >> 8 & 0x00010001u) | (other[w] & 0x01000100u);
            }
            #pragma unroll
            for (int w = 0; w < 4; ++w) votes[w] += hit[w];
        }
        #pragma unroll
        for (int w = 0; w < 4; ++w) out[strip * 128u + lane * 4u + w] = votes[w];
    }
}
