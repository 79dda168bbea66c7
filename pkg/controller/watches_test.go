package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestUnfollowed reads constraints of a kind that comes, goes and comes again: who
// reads one that is gone is told so, and does not have it followed again.
func TestUnfollowed(t *testing.T) {
	_, c := admin(t)
	p := run(t, "unfollowed", processOptions{})
	removeTemplate(t, c, "UnfollowedKind")
	for i := range 3 {
		apply(t, c, template("UnfollowedKind", "word", "string"))
		name := fmt.Sprint("c", i)
		apply(t, c, constraint("UnfollowedKind", name, "1"))
		p.awaitSays(t, "UnfollowedKind", name+": word 1")
		if !p.ingest.Synced("UnfollowedKind") || p.ingest.Synced("Unfollowedkind") {
			t.Error("a kind that is followed is not known as synced, or one of another case is")
		}
		if err := c.Delete(t.Context(), get(t, c, key{name: "unfollowedkind"})); err != nil {
			t.Fatal(err)
		}
		await(t, "the kind to be followed no more", func() error {
			if p.ingest.Synced("UnfollowedKind") {
				return errors.New("it is")
			}
			ctx, cancel := context.WithTimeout(t.Context(), notYet) // or else it waits for a list that never comes
			defer cancel()
			one, all := newObject(constraintGVK("UnfollowedKind")), &unstructured.UnstructuredList{}
			all.SetGroupVersionKind(constraintGVK("UnfollowedKindList"))
			for _, err := range []error{
				p.ingest.cache.Get(ctx, client.ObjectKey{Name: name}, one), p.ingest.cache.List(ctx, all),
			} {
				if gone := (*cache.ErrResourceNotCached)(nil); !errors.As(err, &gone) {
					return fmt.Errorf("who reads is told %w", err)
				}
			}
			return nil
		})
	}
}
