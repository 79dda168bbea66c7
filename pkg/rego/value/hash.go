package value

import (
	"hash/maphash"
	"math"
	"strconv"
)

var seed = maphash.MakeSeed()

// Hash is the same for values that are Equal, within one process.
func Hash(v any) uint64 {
	switch v := v.(type) {
	case string:
		return maphash.String(seed, v)
	case int64:
		return hashFloat(float64(v))
	case bool:
		if v {
			return 2
		}
		return 1
	case *Set:
		var sum uint64
		for _, e := range v.elems {
			sum += mix(Hash(e))
		}
		return mix(sum + 7)
	}
	return hashOther(v)
}

func hashOther(v any) uint64 {
	if elems, ok := Elems(v); ok {
		h := uint64(5)
		for _, e := range elems {
			h = mix(h ^ Hash(Defined(e)))
		}
		return h
	}
	if isNumber(v) {
		text, _ := NumberText(v)
		f, _ := strconv.ParseFloat(string(text), 64) // out of range is Inf, the same for equals
		return hashFloat(f)
	}
	var sum uint64
	Range(v, func(key, e any) bool {
		sum += mix(mix(Hash(key)) ^ Hash(e))
		return true
	})
	return mix(sum + 11)
}

func hashFloat(f float64) uint64 { return mix(math.Float64bits(f + 0)) } // -0 + 0 is 0

// mix spreads the bits of h: the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
