package main

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/engine"
)

// decoders are how an AdmissionReview may be decoded: as the webhook does it, and
// by Kubernetes' decoder alone. Package rawjson stays as long as it saves at least
// 15 % of a review.
var decoders = []struct {
	name   string
	decode func(body []byte) any
}{{"rawjson", decodeOurs}, {"kubernetes", decodeKubernetes}}

// libraryOf is Fusegate's engine with the library.
func libraryOf(b *testing.B) *ours {
	b.Helper()
	library, err := loadLibrary()
	if err != nil {
		b.Fatal(err)
	}
	o, err := newOurs(b.Context(), library, engine.New)
	if err != nil {
		b.Fatal(err)
	}
	return o
}

// BenchmarkReview decodes and judges the subjects by Fusegate alone, with either
// decoder.
func BenchmarkReview(b *testing.B) {
	o := libraryOf(b)
	for _, s := range pods() {
		body := s.admission()
		for _, by := range decoders {
			b.Run(s.name+"/decoder="+by.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := o.judge(b.Context(), reviewOf(by.decode(body))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
