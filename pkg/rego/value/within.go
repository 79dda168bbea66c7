package value

// ElementSize is what an element of a collection counts for, in bytes.
const ElementSize = 16

// Within tells whether v is no larger than so many bytes, roughly. It looks at
// no more of it than that.
func Within(v any, bytes int) bool { return within(v, &bytes) }

func within(v any, left *int) bool {
	*left -= ElementSize
	if text, ok := v.(string); ok {
		*left -= len(text)
	}
	if *left < 0 || v == nil {
		return *left >= 0
	}
	fits := true
	visit := func(k, e any) bool {
		fits = within(k, left) && within(e, left)
		return fits
	}
	switch KindOf(v) {
	case KindArray:
		elems, _ := Elems(v)
		for i := 0; i < len(elems) && fits; i++ {
			fits = within(elems[i], left)
		}
	case KindSet:
		elems := v.(*Set).Elems()
		for i := 0; i < len(elems) && fits; i++ {
			fits = within(elems[i], left)
		}
	case KindObject:
		Range(v, visit)
	}
	return fits
}
