package main

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/engine"
)

// BenchmarkReview judges the subjects by Fusegate alone, for profiles.
func BenchmarkReview(b *testing.B) {
	library, err := loadLibrary()
	if err != nil {
		b.Fatal(err)
	}
	o, err := newOurs(b.Context(), library, engine.New)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range pods() {
		b.Run(s.name, func(b *testing.B) {
			body := s.admission()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.judge(b.Context(), reviewOf(o.decode(body))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
