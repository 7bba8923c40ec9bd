use halfinverse::network::*; use halfinverse::objective::*; use halfinverse::simulator::*; use halfinverse::spectral::*; use halfinverse::jacobian::*; use halfinverse::*;
use std::time::Instant; use faer::*;
fn med(n:usize, mut f: impl FnMut())->f64{ f(); let mut t:Vec<f64>=(0..n).map(|_|{let s=Instant::now(); f(); s.elapsed().as_secs_f64()*1e3}).collect(); t.sort_by(f64::total_cmp); t[n/2]}
fn main(){
 use rand::{SeedableRng,RngExt}; let mut rng=rand_chacha::ChaCha8Rng::seed_from_u64(1);
 let net=Mlp::new(&[4,20,20,20,96],Activation::Relu).unwrap(); let theta=net.initialize(Init::GlorotUniform,&mut rng);
 let model=Model::new(net,Oscillators::new(Default::default()).unwrap(),SquaredError{factor:1.0,reduction:Reduction::Mean}).unwrap();
 let mut mk=|b:usize|{let x=Mat::from_fn(b,4,|_,_|rng.random::<f64>()); Problem::new(&model,Samples{input:x.clone(),initial:x.clone(),target:x},1).unwrap()};
 let mut p512=mk(512); let mut g=vec![0.0;theta.len()];
 println!("grad512 {:.3}",med(200,||{p512.gradient(&theta,&mut g).unwrap();}));
 println!("loss512 {:.3}",med(200,||{p512.loss(&theta).unwrap();}));
 let mut p=mk(128);
 println!("lin128 {:.3}",med(200,||{p.linearize(&theta).unwrap();}));
 println!("loss128 {:.3}",med(200,||{p.loss(&theta).unwrap();}));
 { let mut l=p.linearize(&theta).unwrap(); let v=vec![1.0;theta.len()]; let mut o=vec![0.0;512];
 println!("Jv {:.4}",med(500,||{l.jacobian.apply(&v,&mut o);}));
 let mut w=vec![0.0;theta.len()]; println!("Jtu {:.4}",med(500,||{l.jacobian.apply_transpose(&o,&mut w);}));
 println!("gram {:.3}",med(50,||{l.jacobian.row_gram(Par::Seq);}));
 println!("dense {:.3}",med(10,||{l.jacobian.dense_transpose();}));
 }
 let f=Filter::power(0.5,1e-6).unwrap();
 for s in [Solver::Gram,Solver::Krylov{vectors:16},Solver::Krylov{vectors:32},Solver::Svd]{ let mut d=vec![0.0;theta.len()];
  let o=Options{solver:s,..Default::default()}; let mut rep=None;
  let t=med(20,||{let mut l=p.linearize(&theta).unwrap(); rep=Some(update(&mut l.jacobian,l.outcome_gradient,&f,&o,&mut d).unwrap());});
  println!("{s} {t:.3} {:?}",rep.unwrap()); }
 { let mut l=p.linearize(&theta).unwrap(); let k=l.jacobian.row_gram(Par::Seq);
   println!("faer eig {:.2}",med(10,||{k.self_adjoint_eigen(Side::Lower).unwrap();})); }
}
