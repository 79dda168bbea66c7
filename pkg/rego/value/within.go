package value

// ElementSize is what an element of a collection counts for, in bytes.
const ElementSize = 16

// Within tells whether v is no larger than so many bytes, roughly. It looks at
// no more of it than that.
func Within(v any, bytes int) bool {
	w := walker{left: bytes}
	w.visit = func(k, e any) bool { return w.within(k) && w.within(e) }
	return w.within(v)
}

// walker has its callback made once for all values that it comes to.
type walker struct {
	left  int
	visit func(k, e any) bool
}

func (w *walker) within(v any) bool {
	w.left -= ElementSize
	if text, ok := v.(string); ok {
		w.left -= len(text)
		return w.left >= 0
	}
	if w.left < 0 || v == nil {
		return w.left >= 0
	}
	switch KindOf(v) {
	case KindArray:
		elems, _ := Elems(v)
		return w.all(elems)
	case KindSet:
		return w.all(v.(*Set).Elems())
	case KindObject:
		Range(v, w.visit)
	}
	return w.left >= 0
}

func (w *walker) all(elems []any) bool {
	for _, e := range elems {
		if !w.within(e) {
			return false
		}
	}
	return true
}
