package canary

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Reached asks every API server once whether the webhook answers it, whatever the
// rules, and joins an error for each that it does not answer, or that could not be
// asked. The webhook ends the connection of each such canary: an API server keeps
// connections, and many networks let those go on that they would not let begin.
func Reached(ctx context.Context, servers Servers) error {
	list, err := servers.Servers(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() { errs[i] = reached(s.Name, ask(ctx, s.Client, anewPrefix, "any")) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func reached(server string, a Answer) error {
	switch a.Outcome {
	case Denied:
		return nil
	case Admitted:
		return fmt.Errorf("the webhook does not answer API server %s, which let a canary through after %v", server, a.Took.Round(time.Millisecond))
	}
	return fmt.Errorf("API server %s could not be asked: %w; ask from where it can be reached, or name in apiServers what can be reached from here", server, a.Err)
}
